-- What an operator sees of a claim, and how he ends it.
--
-- KEYS[1]  the record, as claim.lua describes it
-- KEYS[2]  whose claims were freed
-- ARGV[1]  show     only look
--          resolve  the key is free again, unless its write is running
--
-- {}                                        there is none
-- {state, age in s, first id, route, 0/1}   1: it was resolved
--
-- The state is that which a retry would meet: in_progress, completed,
-- unavailable or unknown. The answer stays here.
--
-- Of a claim that is freed there stays who its owner was. He may still send
-- his outcome again, not having heard that Redis took it, and settle.lua must
-- not make a record of that. It is one string, the last freed first: of each,
-- state, U C or T, and owner (16 bytes). A day is longer than any outcome is
-- sent again; a write that runs for longer is forgotten.

local sub = string.sub

local FREED = 17 * 8
local DAY = 86400000

local key, action = KEYS[1], ARGV[1]
local value = redis.call('GET', key)

if action ~= 'show' and action ~= 'resolve' then
    return redis.error_reply('KGARGS of resolve')
end

if not value then
    return {}
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

if #value < 74 then
    return redis.error_reply('KGSTATE ' .. key .. ' is too short')
end

local version, letter, owner = struct.unpack('>Bc1c16', value)
local claimed, leased, idlen, routelen, len =
    struct.unpack('>I8I8I2I2I4', value, 51)

if version ~= 1 or #value ~= 74 + idlen + routelen + len then
    return redis.error_reply('KGSTATE ' .. key .. ' is malformed')
end

local state = ({P = now < leased and 'in_progress' or 'unknown',
    C = 'completed', T = 'unavailable', U = 'unknown'})[letter]

if not state then
    return redis.error_reply('KGSTATE ' .. key .. ' is in no known state')
end

local resolved = 0

if action == 'resolve' and state ~= 'in_progress' then
    local was = letter == 'P' and 'U' or letter
    local freed = redis.call('GET', KEYS[2]) or ''

    redis.call('DEL', key)
    redis.call('SET', KEYS[2], sub(was .. owner .. freed, 1, FREED),
        'PX', DAY)
    resolved = 1
end

local age = math.floor((now - claimed) / 1000000)

return {state, age > 0 and age or 0, sub(value, 75, 74 + idlen),
    sub(value, 75 + idlen, 74 + idlen + routelen), resolved}
