-- Adds an entry to the audit trail, once: a writer that lost the reply sends
-- the same again.
--
-- KEYS[1]  the stream
-- ARGV[1]  how many entries are kept, about
-- ARGV[2]  the request's id, which is also the value of a field
-- ARGV[3...]  the fields: name, value, name, value ...
--
-- The entry's id. A repetition is looked for among the newest entries: it
-- comes within seconds of a lost connection.

local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 100)

for _, entry in ipairs(newest) do
    for i = 1, #entry[2], 2 do
        if entry[2][i] == 'requestId' and entry[2][i + 1] == ARGV[2] then
            return entry[1]
        end
    end
end

return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
    unpack(ARGV, 3))
