-- Writes a whole record when it is still what the writer read.
--
-- KEYS[1]  the record
-- ARGV[1]  what it is expected to be; empty: absent
-- ARGV[2]  what it becomes; empty: deleted
--
-- 1: written; 0: it is something else by now. Its expiry stays.

local value = redis.call('GET', KEYS[1])

if value then
    if ARGV[1] == '' or value ~= ARGV[1] then
        return 0
    end
elseif ARGV[1] ~= '' then
    return 0
end

if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
end

return 1
