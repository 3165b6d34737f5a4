-- Ends a claim, or prolongs it. Only its owner can.
--
-- KEYS[1]  the record, as claim.lua describes it
-- KEYS[2]  of an outcome: what operators have freed, as resolve.lua has it
-- ARGV[1]  complete   executed, and here is its answer
--          tombstone  executed, its answer is not kept
--          unknown    it may have been executed
--          release    it was surely not executed
--          renew      it is running still
-- ARGV[2]  owner (16 bytes)
-- renew:   lease in ms
-- complete, tombstone, unknown: fingerprint (32 bytes), retention in ms,
--          request id, route, with which a record that has gone is written
--          again; complete: the sealed answer
--
-- A record that an operator freed comes back only for what he did not know
-- of: that a write whose outcome was unknown to him was executed after all.
--
-- 1: done, or done before; 0: the record is another's, or past that.

local sub = string.sub

local key, action, owner = KEYS[1], ARGV[1], ARGV[2]
local next_state = ({complete = 'C', tombstone = 'T', unknown = 'U'})[action]
local value = redis.call('GET', key)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

if #owner ~= 16
    or (not next_state and action ~= 'release' and action ~= 'renew')
then
    return redis.error_reply('KGARGS of settle')
end

if not value then
    if action == 'release' then
        return 1
    end

    if action == 'renew' then
        return 0
    end

    local fingerprint, retention = ARGV[3], tonumber(ARGV[4])
    local id, route = ARGV[5], ARGV[6]
    local answer = action == 'complete' and ARGV[7] or ''

    if #fingerprint ~= 32 or #id > 65535 or #route > 65535 or not retention
        or retention < 1
    then
        return redis.error_reply('KGARGS of settle')
    end

    local freed = redis.call('GET', KEYS[2]) or ''

    for at = 1, #freed - 16, 17 do
        if sub(freed, at + 1, at + 16) == owner
            and (next_state == 'U' or sub(freed, at, at) ~= 'U')
        then
            return 1
        end
    end

    redis.call('SET', key,
        struct.pack('>Bc1c16c32I8I8I2I2I4', 1, next_state, owner, fingerprint,
            now(), 0, #id, #route, #answer) .. id .. route .. answer,
        'PX', retention)
    return 1
end

if #value < 74 then
    return redis.error_reply('KGSTATE ' .. key .. ' is too short')
end

local version, state, holder = struct.unpack('>Bc1c16', value)
local idlen, routelen, len = struct.unpack('>I2I2I4', value, 67)
local head = 74 + idlen + routelen

if version ~= 1 or #value ~= head + len then
    return redis.error_reply('KGSTATE ' .. key .. ' is malformed')
end

if holder ~= owner then
    return 0
end

if state == next_state then
    return 1
end

if state ~= 'P' and (state ~= 'U' or action == 'renew') then
    return 0
end

if action == 'release' then
    redis.call('DEL', key)
    return 1
end

if action == 'renew' then
    local lease = tonumber(ARGV[3])

    if not lease or lease < 1 then
        return redis.error_reply('KGARGS of settle')
    end

    redis.call('SET', key,
        sub(value, 1, 58) .. struct.pack('>I8', now() + lease * 1000)
            .. sub(value, 67),
        'KEEPTTL')

    -- A write that runs for longer than it is to be kept holds its key.
    if redis.call('PTTL', key) < 2 * lease then
        redis.call('PEXPIRE', key, 2 * lease)
    end

    return 1
end

local answer = action == 'complete' and ARGV[7] or ''

redis.call('SET', key,
    sub(value, 1, 1) .. next_state .. sub(value, 3, 70)
        .. struct.pack('>I4', #answer) .. sub(value, 75, head) .. answer,
    'KEEPTTL')
return 1
