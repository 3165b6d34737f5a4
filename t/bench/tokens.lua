-- The load of keys.py: each request has one of the tokens of a file, all of one
-- length, by turns or at random.
--     wrk -s tokens.lua URL -- FILE FIRST COUNT random|turns

local head, tokens, size, first, count, random, turn

function init(args)
    local file = assert(io.open(args[1], "rb"))
    tokens = file:read("*a")
    file:close()

    size = tokens:find("\n", 1, true)
    first, count = tonumber(args[2]), tonumber(args[3])
    random = args[4] == "random"
    turn = 0
    head = "GET /v1/loads HTTP/1.1\r\nHost: " .. wrk.host
           .. "\r\nAuthorization: Bearer "
    math.randomseed(os.time())
end

function request()
    local n
    if random then
        n = math.random(0, count - 1)
    else
        n = turn
        turn = (turn + 1) % count
    end
    n = (first + n) * size
    return head .. tokens:sub(n + 1, n + size - 1) .. "\r\n\r\n"
end
