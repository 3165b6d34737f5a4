-- The gate one would write with nginx's Lua module: the key's record from
-- Redis, kept for some seconds in shared memory when cached is true, and an
-- exact limit (GCRA) decided by a script in Redis.

local redis = require "nginx.redis"
local cjson = require "cjson.safe"

local SCRIPT = [[
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local emission, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local arrival = tonumber(redis.call('GET', KEYS[1])) or now
if arrival < now then arrival = now end
local after = arrival + emission
if after - now > burst then return {0, after - now - burst} end
redis.call('SET', KEYS[1], string.format('%.0f', after),
           'PX', math.ceil((after - now) / 1000) + 1)
return {1, math.floor((burst - (after - now)) / emission)}
]]

local gate = {}
local script_sha

local function unavailable(reason)
    ngx.log(ngx.ERR, reason)
    return ngx.exit(503)
end

function gate.check(cached)
    local header = ngx.req.get_headers()["authorization"]
    local token = header and string.match(header, "^Bearer (.+)$")
    if not token then
        return ngx.exit(401)
    end

    local client = redis:new()
    client:set_timeout(200)
    local ok, reason = client:connect("127.0.0.1", @REDIS_PORT@)
    if not ok then
        return unavailable(reason)
    end

    local records = ngx.shared.records
    local text = cached and records:get(token)
    if not text then
        text = client:get("peer:key:" .. token)
        if not text or text == ngx.null then
            return ngx.exit(401)
        end
        if cached then
            records:set(token, text, 5)
        end
    end

    local record = cjson.decode(text)
    script_sha = script_sha or client:script("LOAD", SCRIPT)
    local decision
    decision, reason = client:evalsha(script_sha, 1,
        "peer:limit:" .. record.id, record.emission_us, record.burst_us)
    if not decision then
        return unavailable(reason)
    end
    client:set_keepalive(10000, 256)

    if decision[1] == 0 then
        ngx.header["Retry-After"] = math.ceil(decision[2] / 1000000)
        return ngx.exit(429)
    end
    ngx.header["X-RateLimit-Remaining"] = decision[2]
end

return gate
