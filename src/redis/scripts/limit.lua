-- Admits requests, or refuses them, by several limits at once, and leases.
--
-- KEYS[i]  the state of policy i
-- ARGV[1]  what is asked, packed, all numbers little endian: the cost of a
--          request (I4), then for each policy its flags (B: 1 bucket, 2 dry),
--          its limit (I4; a bucket's burst), its window in seconds (I4), and of
--          a bucket (d, d) the units that a request costs and those that leave
--          in a microsecond, which is a power of two
-- ARGV[2]  when there is more: how many requests there are (I4; 0 only looks),
--          to lease (I4), whether something was spent without asking (I4), what
--          comes back of a lease (I4), that lease's moment (d, us) and life (I4,
--          us), the life of a new one (I4, us), and of each policy what was
--          spent without asking (I4)
--
-- The answer is packed too: requests granted (I4), the dry policies that would
-- have refused some (I2, a bit each), the refusing policy or 0 (B), ms until
-- the next request can succeed when nothing else is admitted (I4; 4294967295:
-- never); of each policy what is left and ms until all is back (I4, I4); when
-- something is leased how much (I4) and the moment (d, us).
--
-- What one policy refuses spends nothing on the others. Of several that refuse
-- the one with the latest relief is told. Of requests of one cost as many are
-- granted as fit. src/core/kg_limit.h has the layout of a state and says why
-- never more than the limit is admitted; kg_limit.c takes the same steps, and
-- a test compares the two byte for byte.
--
-- Positions are text where the path is hot: Lua takes longer to write a number
-- than Redis to run the command.

local call, parse, pack = redis.call, struct.unpack, struct.pack

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local policies, args, more = #KEYS, ARGV[1], ARGV[2]
local cost, flags, limit, period, at = parse('<I4BI4I4', args)

-- Where a slice holds many requests, most decisions are one more in the newest
-- entry of a window that has room, and nothing leaves.  What follows would make
-- the same bytes of it, for longer; here not even the blocks are read.
if limit > 240 * cost and flags == 0 and policies == 1 and not more then
    local head = call('GETRANGE', KEYS[1], '0', '32')

    if #head == 33 then
        local window = period * 1000000
        local slice = (window - window % 60) / 60
        local version, total, count, newest, oldest, expiry =
            parse('<BI4I4ddd', head)

        if newest <= clock and newest >= clock - clock % slice
            and version == 2 and count > 0 and oldest < newest
            and oldest > clock - window and total + cost <= limit
            and expiry * 1000 >= clock + window and cost > 0
        then
            total = total + cost
            call('SETRANGE', KEYS[1], '1', pack('<I4I4d', total, count + cost,
                clock))

            return pack('<I4I2BI4I4I4', 1, 0, 0, 0, limit - total,
                1000 * period)
        end
    end
end

local sub, floor, ceil = string.sub, math.floor, math.ceil
local n, want, owes, back, since, lived, life = 1, 0, 0, 0, 0, 0, 0

if more then
    n, want, owes, back, since, lived, life = parse('<I4I4I4I4dI4I4', more)
end

if cost < 1 then
    return redis.error_reply('KGARGS of limit')
end

local key, data, window, slice, unit, pace, room, left, add, must, dirty
local total, count, newest, oldest, expiry, born, before, spare
local first, nfirst, nlast, from, nring
local granted, lease, dry, states = n, want, 0, nil

if policies > 1 then
    states = {}
end

for i = 1, policies do
    if i > 1 then
        flags, limit, period, at = parse('<BI4I4', args, at)
    end

    if period < 1 then
        return redis.error_reply('KGARGS of limit')
    end

    key = KEYS[i]
    window = period * 1000000
    slice = (window - window % 60) / 60
    data = call('GETRANGE', key, '0', '239')
    add, must, dirty = 0, false, 0

    if owes > 0 then
        add = parse('<I4', more, 29 + 4 * i)
        must = add > 0
    end

    if flags % 2 == 1 then
        unit, pace, at = parse('<dd', args, at)
        room = limit * unit
        window = ceil(room / pace)
        total, newest, expiry, born, before, spare = 0, clock, 0, clock, -1, 0

        if data ~= '' then
            local version, was = 0, 0

            if #data == 49 then
                version, total, newest, was, expiry, born, spare =
                    parse('<Bdddddd', data)
            end

            if version ~= 4 then
                return redis.error_reply('KGSTATE ' .. key
                    .. ' is malformed')
            end

            if was ~= unit then
                total, spare = ceil(total / was * unit), 0
            end

            before = newest

            -- A clock that was set back stands still, for so long at most.
            if newest < clock then
                total, newest = total - (clock - newest) * pace, clock
            elseif newest - clock > window then
                born = born > newest and born or newest + 1
                newest, must = clock, true
            end

            if total < 0 then
                total = 0
            end

            if spare > total then
                spare = total
            end

            if back > 0 and born <= since and since <= newest and spare > 0
            then
                local held = back * unit

                held = held < spare and held or spare
                total, spare, must = total - held, spare - held, true
            end

            -- At a lower rate it is paid off later than Redis would forget it.
            if expiry * 1000 < newest + total / pace then
                must = true
            end
        end

        if add > 0 then
            local most = total > 2 * room and total or 2 * room

            total = total + add * unit

            if total > most then
                total, spare = most, 0
            end
        end

        left = floor((room - total) / unit)

        if want > 0 then
            local base = total

            if base < life * pace then
                base = life * pace
            end

            base = floor((room - base) / unit)

            if lease > floor((base - n * cost) / 8) then
                lease = floor((base - n * cost) / 8)
            end
        end

    elseif data == '' then
        total, count, newest, oldest, expiry, born = 0, 0, clock, clock, 0,
            clock
        first, nfirst, nlast, from, nring = 0, 0, 0, 0, 0

    else
        local version

        if #data == 240 then
            version, total, count, newest, oldest, expiry, born, first, nfirst,
                nlast, from, nring = parse('<BI4I4ddddBBBBB', data)
        end

        if version ~= 2 or nfirst > 8 or first > nfirst or nlast > 8
            or from > 7 or nring > 7
            or (first == nfirst and nlast + nring > 0)
        then
            return redis.error_reply('KGSTATE ' .. key .. ' is malformed')
        end

        -- So far back that all there is counts as admitted now.
        if newest - clock > window then
            count, newest, oldest, expiry, born = total, clock, clock, 0, clock
            first, nfirst, nlast, from, nring = 0, 0, 0, 0, 0
            must, dirty = true, 1
        end

        while oldest + window <= clock do
            dirty = dirty == 2 and 2 or 1

            if first == nfirst then
                total, count, newest, oldest = total - count, 0, clock, clock
                break
            end

            if first + 1 < nfirst then
                local held

                held, oldest = parse('<I4d', data, 153 + 12 * first)
                total, first = total - held, first + 1
            else
                total = total - parse('<I4', data, 153 + 12 * first)
                first = first + 1

                if nring > 0 then
                    data = sub(data, 1, 144) .. call('GETRANGE', key,
                        240 + 96 * from, 335 + 96 * from)
                    first, nfirst, from, nring = 0, 8, (from + 1) % 8,
                        nring - 1
                    dirty = 2
                elseif nlast > 0 then
                    data = sub(data, 1, 144) .. sub(data, 49, 144)
                    first, nfirst, nlast, dirty = 0, nlast, 0, 2
                end

                oldest = first == 0 and parse('<d', data, 145) or newest
            end
        end

        if total < 0 or (first == nfirst and total ~= count) then
            return redis.error_reply('KGSTATE ' .. key .. ' does not add up')
        end

        if back > 0 and born <= since then
            local mine, stamp, held = floor((since + lived) / slice), 0, 0
            local many, where = nlast, 49

            if many == 0 then
                many, where = nfirst, 145
            end

            if floor(newest / slice) == mine then
                held = back < count and back or count
                total, count, must = total - held, count - held, true
                many = 0
            end

            for j = where + 12 * (many - 1), where, -12 do
                stamp, held = parse('<dI4', data, j)

                if floor(stamp / slice) == mine
                    and (where == 49 or j >= where + 12 * first)
                then
                    held = back < held and back or held
                    total, must, dirty = total - held, true, 2
                    data = sub(data, 1, j + 7) .. pack('<I4',
                        parse('<I4', data, j + 8) - held) .. sub(data, j + 12)
                    break
                end
            end
        end
    end

    if flags % 2 == 0 then
        if add > 3000000000 - total then
            add = 3000000000 - total
        end

        total = total + add
        left = limit - total

        if want > 0 and lease > floor((left - n * cost) / 8) then
            lease = floor((left - n * cost) / 8)
        end
    end

    if left < n * cost then
        if flags > 1 then
            dry = dry + 2 ^ (i - 1)
        elseif left < granted * cost then
            granted = left < cost and 0 or floor(left / cost)
        end
    end

    if states then
        states[i] = {flags, limit, period, key, data, window, slice, unit,
            pace, room, left, add, must, dirty, total, count, newest, oldest,
            expiry, born, first, nfirst, nlast, from, nring, before, spare}
    end
end

-- A part of a request is of no use.
if granted < n or lease < cost then
    lease = 0
elseif cost > 1 then
    lease = lease - lease % cost
end

local refusing, relief, stand = 0, 0, ''
local moment = lease > 0 and clock + life or clock

for i = 1, policies do
    if states then
        flags, limit, period, key, data, window, slice, unit, pace, room, left,
            add, must, dirty, total, count, newest, oldest, expiry, born,
            first, nfirst, nlast, from, nring, before, spare =
            unpack(states[i], 1, 27)
    end

    local bucket, units, reset = flags % 2 == 1, granted * cost + lease, 0

    -- A dry policy grants what it has.
    if units > left then
        units = left < cost and 0 or floor(left / cost) * cost
    end

    if granted < n and flags < 2 and left < (granted + 1) * cost then
        local ms, need = 4294967295, (granted + 1) * cost - left

        if cost <= limit and bucket then
            ms = ceil(((granted + 1) * cost * unit + total - room) / pace
                / 1000)
            ms = ms < 4294967294 and ms or 4294967294
        elseif cost <= limit then
            local old = sub(data, 145 + 12 * first, 144 + 12 * nfirst)
            local when, held

            if nring > 0 then
                local ring = call('GETRANGE', key, '240', '1007')

                ring = ring .. string.rep('\0', 768 - #ring)
                ring = sub(ring, 96 * from + 1) .. ring
                old = old .. sub(ring, 1, 96 * nring)
            end

            old = old .. sub(data, 49, 48 + 12 * nlast)

            -- What is spent now may make the newest entry count longer.
            if units + add == 0 then
                old = old .. pack('<dI4', newest, count)
            elseif count > 0 and floor(newest / slice)
                < floor(moment / slice)
            then
                old = old .. pack('<dI4dI4', newest, count, moment,
                    units + add)
            else
                old = old .. pack('<dI4', newest > moment and newest or moment,
                    count + units + add)
            end

            ms = 1000 * period

            for j = 1, #old, 12 do
                when, held = parse('<dI4', old, j)
                need = need - held

                if need <= 0 then
                    ms = ceil((when + window - clock) / 1000)
                    break
                end
            end
        end

        if ms > relief then
            refusing, relief = i, ms
        end
    end

    if units + add > 0 or must then
        if bucket then
            if lease > 0 then
                if total < life * pace then
                    total = life * pace
                end

                if spare > total - life * pace then
                    spare = total - life * pace
                end
            end

            total = total + units * unit

            -- From a new moment on, which no earlier lease has.
            if lease > 0 and spare < lease * unit and before < newest then
                born = born > newest and born or newest
                spare = total
            end

            if expiry * 1000 >= newest + total / pace then
                call('SET', key, pack('<Bdddddd', 4, total, newest, unit,
                    expiry, born, spare), 'KEEPTTL')
            else
                local ttl = 2 * ceil(window / 1000)
                local owed = ceil((newest - clock + total / pace) / 1000)

                -- Where burst= was higher, there may be more than fits now.
                if ttl < owed then
                    ttl = owed < 5184000000 and owed or 5184000000
                end

                ttl = ttl + 1000
                expiry = floor(clock / 1000) + ttl
                call('SET', key, pack('<Bdddddd', 4, total, newest, unit,
                    expiry, born, spare), 'PX', ttl)
            end
        else
            local stamp, place, entry = moment, nil, ''
            local kept = expiry * 1000 >= stamp + window

            units = units + add
            total = total + units - add

            if newest > stamp then
                stamp = newest
            end

            if units == 0 then
                stamp = newest
            elseif count == 0 or newest >= stamp - stamp % slice then
                if first == nfirst then
                    oldest = stamp
                end
            else
                entry = pack('<dI4', newest, count)
                count = 0

                if first == nfirst then
                    first, nfirst, place = 0, 1, 144
                elseif nlast == 0 and nring == 0 and nfirst < 8 then
                    place = 144 + 12 * nfirst
                    nfirst = nfirst + 1
                elseif nlast < 8 then
                    place = 48 + 12 * nlast
                    nlast = nlast + 1
                else
                    call('SETRANGE', key, 240 + 96 * ((from + nring) % 8),
                        sub(data, 49, 144))
                    nring, nlast, place = nring + 1, 1, 48
                end
            end

            newest, count = stamp, count + units

            if not kept then
                expiry = floor(clock / 1000) + 2000 * period
            end

            if data == '' then
                call('SET', key, pack('<BI4I4ddddBBBBB', 2, total, count,
                    newest, oldest, expiry, born, 0, 0, 0, 0, 0)
                    .. string.rep('\0', 194), 'PX', 2000 * period)
            else
                if not place and dirty == 0 and kept then
                    data = pack('<BI4I4dd', 2, total, count, newest, oldest)
                else
                    local head = pack('<BI4I4ddddBBBBB', 2, total, count,
                        newest, oldest, expiry, born, first, nfirst, nlast,
                        from, nring)

                    if dirty < 2 and not place then
                        data = head
                    elseif dirty < 2 then
                        data = head .. sub(data, 47, place) .. entry
                    elseif not place then
                        data = head .. sub(data, 47)
                    else
                        data = head .. sub(data, 47, place) .. entry
                            .. sub(data, place + 13)
                    end
                end

                call('SETRANGE', key, '0', data)

                if not kept then
                    call('PEXPIRE', key, 2000 * period)
                end
            end
        end
    end

    if bucket then
        left = floor((room - total) / unit)
        reset = ceil(total / pace / 1000)
        reset = reset < 4294967294 and reset or 4294967294
    else
        left = limit - total

        if total > 0 then
            reset = 1000 * period

            if newest < clock then
                reset = ceil((newest + window - clock) / 1000)
            end
        end
    end

    if left < 0 then
        left = 0
    end

    if states then
        stand = stand .. pack('<I4I4', left, reset)
    else
        stand = pack('<I4I2BI4I4I4', granted, dry, refusing, relief, left,
            reset)
    end
end

if states then
    stand = pack('<I4I2BI4', granted, dry, refusing, relief) .. stand
end

if lease > 0 then
    stand = stand .. pack('<I4d', lease, clock)
end

return stand
