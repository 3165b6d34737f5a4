-- Admits requests by their limits, as limit.lua, and claims the idempotency
-- keys of those that are admitted, as claim.lua: two answers in one round
-- trip.
--
-- KEYS     the states of the policies, then the record of each claim
-- ARGV     the two of limit.lua, the second empty when it would not be there;
--          the eight of claim.lua for each claim; and last, packed, which of
--          the requests each claim is of, from 1 (I2, little endian)
--
-- {limit.lua's answer, claim.lua's to each claim}; nil for a claim that was
-- not made, because its request is not admitted or its record cannot be read.
--
-- Nothing is claimed for a request that is refused, and what goes wrong with
-- one claim is no matter of the others.

local limit = script('limit')
local claim = script('claim')

local whose = ARGV[#ARGV]
local claims = #whose / 2
local policies = #KEYS - claims

if policies < 1 or #ARGV ~= 3 + 8 * claims then
    return redis.error_reply('KGARGS of admit')
end

local told = limit({unpack(KEYS, 1, policies)},
    {ARGV[1], ARGV[2] ~= '' and ARGV[2] or nil})

if type(told) ~= 'string' then
    return told
end

local granted = struct.unpack('<I4', told)
local answers = {told}

for i = 1, claims do
    local at, made, answer = 8 * i - 5, false, nil

    if struct.unpack('<I2', whose, 2 * i - 1) <= granted then
        made, answer = pcall(claim, {KEYS[policies + i]},
            {unpack(ARGV, at, at + 7)})
    end

    answers[i + 1] = made and answer
end

return answers
