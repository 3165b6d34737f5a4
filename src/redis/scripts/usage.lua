-- Adds what a node counted of a key on a day, once: a flight that is sent
-- again, because nobody knows whether it arrived, changes nothing.
--
-- KEYS[1]  the key's counts of the day, a hash: "<route>|<outcome>", and for
--          each node the number of its last flight
-- KEYS[2]  when and from where the key was used, a hash: "at" and
--          "address:<address>", dates as text, which sort by time
-- ARGV[1]  the node
-- ARGV[2]  the flight's number, which grows
-- ARGV[3]  s until the counts expire
-- ARGV[4]  s until the key's last use expires
-- ARGV[5]  when the key was last used
-- ARGV[6]  how many addresses follow, each with its date; of all those known
--          the four used last are kept
-- ARGV     then for each count: route, outcome, count
--
-- 1: added; 0: it was there already, or had no counts.

local call = redis.call
local addresses = tonumber(ARGV[6])
local counts = addresses and 7 + 2 * addresses

if not counts or (#ARGV - counts + 1) % 3 ~= 0 then
    return redis.error_reply('KGARGS of usage')
end

local days, seen = KEYS[1], KEYS[2]
local flight = 'flight:' .. ARGV[1]
local last = call('HGET', days, flight) or '0'
local added = 0

if tonumber(last) < tonumber(ARGV[2]) then
    local refusal

    call('HSET', days, flight, ARGV[2])

    for i = counts, #ARGV, 3 do
        local field = ARGV[i] .. '|' .. ARGV[i + 1]
        local count = redis.pcall('HINCRBY', days, field, ARGV[i + 2])

        if type(count) == 'table' then
            refusal = count
        else
            added = 1
        end
    end

    -- Nothing was added: the same flight may be sent again. A part of it must
    -- not be added twice, so what a part lacks is given up.
    if refusal and added == 0 then
        call('HSET', days, flight, last)
        return refusal
    end

    call('EXPIRE', days, ARGV[3])
end

local function later(field, date)
    local known = call('HGET', seen, field)

    if not known or known < date then
        call('HSET', seen, field, date)
    end
end

later('at', ARGV[5])

for i = 7, counts - 1, 2 do
    later('address:' .. ARGV[i], ARGV[i + 1])
end

call('EXPIRE', seen, ARGV[4])

if call('HLEN', seen) > 5 then
    local all, known = call('HGETALL', seen), {}

    for i = 1, #all, 2 do
        if string.sub(all[i], 1, 8) == 'address:' then
            known[#known + 1] = {all[i + 1], all[i]}
        end
    end

    table.sort(known, function(a, b)
        return a[1] > b[1] or (a[1] == b[1] and a[2] < b[2])
    end)

    for i = 5, #known do
        call('HDEL', seen, known[i][2])
    end
end

return added
