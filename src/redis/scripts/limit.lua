-- Admits a request, or refuses it, by several strict sliding windows at once.
--
-- KEYS[i]  the state of policy i
-- ARGV[1]  the request's cost, an integer from 1
-- ARGV     then for each policy: its limit, its window in seconds
--
-- {granted, policy, relief, remaining and reset of each policy ...}
--   granted    1 or 0; a request one policy refuses spends nothing on others
--   policy     of those that refuse, the one with the latest relief; else 0
--   relief     ms until a request of this cost can first succeed, when nothing
--              else is admitted; -1: never
--   remaining  what is left of the limit
--   reset      ms until all of the limit is back
--
-- A state is one packed string: version, total of all entries, Redis's expiry
-- of the key (ms); then entries of (stamp, count), oldest first. An entry
-- holds what was admitted in one 60th of the window and counts until its last
-- admission, the stamp (us), has left the window. So there are never more
-- than the limit in any window, and at times fewer by what one entry holds.

local call, unpack, pack = redis.call, struct.unpack, struct.pack
local sub, ceil = string.sub, math.ceil

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local policies, cost = #KEYS, tonumber(ARGV[1])

if not cost or cost < 1 or cost % 1 ~= 0 or #ARGV ~= 1 + 2 * policies then
    return redis.error_reply('KGARGS of limit')
end

local reply = {1, 0, 0, 0, 0}
local values, keeps = {0}, {0}

for i = 1, policies do
    local key = KEYS[i]
    local limit, period = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])

    if not limit or not period or limit < 0 or limit > 4294967295
        or period < 1
    then
        return redis.error_reply('KGARGS of limit')
    end

    local window = period * 1000000
    local now, value = clock, call('GET', key)
    local size, from = 0, 14
    local total, expiry, newest, last = 0, 0, 0, 0

    if value then
        size = #value

        if size < 25 or size % 12 ~= 1 then
            return redis.error_reply('KGSTATE ' .. key .. ' is malformed')
        end

        local version, stamp, count
        version, total, expiry, stamp, count = unpack('>BI4I8I8I4', value)

        if version ~= 1 then
            return redis.error_reply('KGSTATE ' .. key .. ' is of version '
                .. version)
        end

        if size == 25 then
            newest, last = stamp, count
        else
            newest, last = unpack('>I8I4', value, size - 11)
        end

        -- The clock was set back: it stands still for a window at most, then
        -- all there is counts as admitted now.
        if newest > clock then
            if newest - clock <= window then
                now = newest
            else
                size, stamp, newest, last = 25, clock, clock, total
                expiry = (clock - clock % 1000) / 1000 + 2000 * period
                value = pack('>BI4I8I8I4', 1, total, expiry, clock, total)
                call('SET', key, value, 'PX', 2000 * period)
            end
        end

        while stamp + window <= now do
            total = total - count
            from = from + 12

            if from > size then
                break
            end

            stamp, count = unpack('>I8I4', value, from)
        end

        if total < 0 or (from > size and total > 0) then
            return redis.error_reply('KGSTATE ' .. key .. ' does not add up')
        end
    end

    local left, reset = limit - total, 0

    if from < size then
        reset = ceil((newest + window - clock) / 1000)
    end

    reply[2 * i + 2] = left > 0 and left or 0
    reply[2 * i + 3] = reset < 1000 * period and reset or 1000 * period

    if cost > left then
        local relief = math.huge

        if cost <= limit then
            local at, stamp, count = from, 0, 0

            while cost > left do
                stamp, count = unpack('>I8I4', value, at)
                left = left + count
                at = at + 12
            end

            relief = ceil((stamp + window - clock) / 1000)
        end

        if relief > reply[3] then
            reply[1], reply[2], reply[3] = 0, i, relief
        end

    elseif reply[1] == 1 then
        local to, slice = size, window / 60

        if from < size and newest - newest % slice == now - now % slice then
            to = size - 12
        else
            last = 0
        end

        keeps[i] = expiry * 1000 >= now + window

        if not keeps[i] then
            expiry = (clock - clock % 1000) / 1000 + 2000 * period
        end

        if from > to then
            values[i] = pack('>BI4I8I8I4', 1, total + cost, expiry, now,
                last + cost)
        else
            values[i] = pack('>BI4I8', 1, total + cost, expiry)
                .. sub(value, from, to) .. pack('>I8I4', now, last + cost)
        end
    end
end

if reply[1] == 0 then
    if reply[3] == math.huge then
        reply[3] = -1
    end

    return reply
end

for i = 1, policies do
    local period = tonumber(ARGV[2 * i + 1])

    if keeps[i] then
        call('SET', KEYS[i], values[i], 'KEEPTTL')
    else
        call('SET', KEYS[i], values[i], 'PX', 2000 * period)
    end

    reply[2 * i + 2] = reply[2 * i + 2] - cost
    reply[2 * i + 3] = 1000 * period
end

return reply
