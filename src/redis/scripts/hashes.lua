-- Reads several hashes at one moment.
--
-- KEYS  the hashes
--
-- Of each its fields and values, as HGETALL has them.

local hashes = {}

for i, key in ipairs(KEYS) do
    hashes[i] = redis.call('HGETALL', key)
end

return hashes
