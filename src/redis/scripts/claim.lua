-- Claims an idempotency key, or says what became of its first request.
--
-- KEYS[1]  the record
-- ARGV     owner (16 bytes), fingerprint (32 bytes), lease in ms, retention
--          in ms, this request's id, its route, and what becomes of a first
--          request whose outcome is not known: "refuse" or "forward"; and
--          the bytes of an answer that may come, 0: any number
--
-- {'claimed'}                      it is ours, also when we had it already;
--                                  or, with "forward", we take it over
-- {'conflict'}                     the key belongs to another request
-- {'in_progress', age in ms}       the first one is running
-- {'unknown', first id}            whether it was executed is not known
-- {'completed', answer, first id}  the sealed answer
-- {'large'}                        the same, and it has more bytes: ask again
--                                  by a connection that it may hold up
-- {'unavailable', first id}        executed, its answer was not kept
--
-- The record is one packed string: version, state, owner, fingerprint,
-- claimed at and leased until (us), then the lengths and texts of request id,
-- route and sealed answer. The state is P in progress, C completed, T
-- completed without its answer, U outcome unknown. Redis's expiry is always
-- the whole retention: the lease is only a field, because a lock that expires
-- is permission to run twice.

local unpack, sub = struct.unpack, string.sub

local key, owner, fingerprint = KEYS[1], ARGV[1], ARGV[2]
local lease, retention = tonumber(ARGV[3]), tonumber(ARGV[4])
local inline = tonumber(ARGV[8])
local id, route, forward = ARGV[5], ARGV[6], ARGV[7] == 'forward'

if #owner ~= 16 or #fingerprint ~= 32 or #id > 65535 or #route > 65535
    or not lease or not retention or lease < 1 or retention < 1
    or not inline
then
    return redis.error_reply('KGARGS of claim')
end

local value = redis.call('GET', key)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function take()
    redis.call('SET', key,
        struct.pack('>Bc1c16c32I8I8I2I2I4', 1, 'P', owner, fingerprint, now,
            now + lease * 1000, #id, #route, 0) .. id .. route,
        'PX', retention)
    return {'claimed'}
end

if not value then
    return take()
end

if #value < 74 then
    return redis.error_reply('KGSTATE ' .. key .. ' is too short')
end

local version, state, holder, first, claimed, leased, idlen, routelen, len =
    unpack('>Bc1c16c32I8I8I2I2I4', value)

if version ~= 1 or #value ~= 74 + idlen + routelen + len then
    return redis.error_reply('KGSTATE ' .. key .. ' is malformed')
end

if state == 'P' and holder == owner then
    redis.call('SET', key,
        sub(value, 1, 58) .. struct.pack('>I8', now + lease * 1000)
            .. sub(value, 67),
        'KEEPTTL')
    return {'claimed'}
end

if first ~= fingerprint then
    return {'conflict'}
end

local first_id = sub(value, 75, 74 + idlen)

if state == 'C' then
    if inline > 0 and len > inline then
        return {'large'}
    end

    return {'completed', sub(value, 75 + idlen + routelen), first_id}
end

if state == 'T' then
    return {'unavailable', first_id}
end

if state == 'P' then
    if now < leased then
        local age = math.floor((now - claimed) / 1000)
        return {'in_progress', age > 0 and age or 0}
    end

    if not forward then
        redis.call('SET', key, sub(value, 1, 1) .. 'U' .. sub(value, 3),
            'KEEPTTL')
    end
elseif state ~= 'U' then
    return redis.error_reply('KGSTATE ' .. key .. ' is in no known state')
end

if forward then
    return take()
end

return {'unknown', first_id}
