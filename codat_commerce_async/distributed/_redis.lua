-- The rules of `_state.py`, as one script: KEYS are the states of the address and of the client, ARGV the report (JSON)
-- and the time in seconds (empty: the server's). States expire after two days without a report.
local LIVE_FOR, LONG_SILENCE, GRACE = 30, 10, 10
local AHEAD, AHEAD_IN_BACKGROUND, RETRY, MAX_PERMITS = 0.5, 0.125, 0.5, 16
local SAME_RESET, FRESH, MINUTE, DAY = 60, 1, 60, 86400
local GRANTED, LATER, COMPANY, FULL, DEFERRED, EXHAUSTED = 0, 1, 2, 3, 4, 5

local report = cjson.decode(ARGV[1])
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function load(key, new)
  local packed = redis.call('GET', key)
  if packed then return cmsgpack.unpack(packed) end
  return new
end

local address = load(KEYS[1], {last = now, tat = now + report.tolerance, pause = 0, seen = {}, minute = {now, 0, 0}})
local client = load(KEYS[2], {last = now, members = {}, pauses = {}, runs = {}, remaining = {}, exhausted = {}})

-- The clock was set, or no process was running.
local passed = now - address.last
address.last = now
if passed < 0 then
  address.tat = address.tat + passed
  address.pause = address.pause + passed
  address.minute[1] = address.minute[1] + passed
  for process, seen in pairs(address.seen) do address.seen[process] = seen + passed end
elseif passed > LONG_SILENCE then
  address.tat = math.max(address.tat, now + report.tolerance)
  for process, seen in pairs(address.seen) do address.seen[process] = math.max(seen, now - LIVE_FOR + GRACE) end
  address.per_minute = nil
end
passed = now - client.last
client.last = now
if passed < 0 then
  for _, member in pairs(client.members) do member.seen = member.seen + passed end
  for company, till in pairs(client.pauses) do client.pauses[company] = till + passed end
  for _, run in pairs(client.runs) do run[2] = run[2] + passed end
  if #client.remaining > 0 then
    client.remaining[2] = client.remaining[2] + passed
    client.remaining[3] = client.remaining[3] + passed
  end
  if #client.exhausted > 0 then
    client.exhausted[1] = client.exhausted[1] + passed
    client.exhausted[3] = client.exhausted[3] + passed
  end
elseif passed > LONG_SILENCE then
  for _, member in pairs(client.members) do member.seen = math.max(member.seen, now - LIVE_FOR + GRACE) end
  client.limits = nil
end

-- What the process holds; dead processes are forgotten.
local me = client.members[report.process]
local sequence = me and me.sequence or 0
if report.leaves == 1 then
  address.seen[report.process] = nil
  client.members[report.process] = nil
else
  address.seen[report.process] = now
  client.members[report.process] =
    {seen = now, held = report.held, reserved = report.reserved, sequence = sequence}
end
for process, seen in pairs(address.seen) do
  if now - seen > LIVE_FOR then address.seen[process] = nil end
end
for process, member in pairs(client.members) do
  if now - member.seen > LIVE_FOR then client.members[process] = nil end
end
me = client.members[report.process]

local function has_several(processes)
  return next(processes, next(processes)) ~= nil
end

-- The limits of the report before, which show that a process has others
local limits = {report.per_minute, report.concurrent, report.per_company}
if report.leaves == 0 then
  if has_several(address.seen) then limits[1] = address.per_minute or limits[1] end
  if has_several(client.members) and client.limits then limits[2], limits[3] = client.limits[1], client.limits[2] end
  address.per_minute, client.limits = report.per_minute, {report.concurrent, report.per_company}
end

local function in_flight()
  local total = 0
  for _, member in pairs(client.members) do
    for _, count in pairs(member.held) do total = total + count end
  end
  return total
end

-- Pauses
for company, seconds in pairs(report.pauses) do
  if company ~= '' then
    client.pauses[company] = math.max(client.pauses[company] or 0, now + seconds)
  else
    address.pause = math.max(address.pause, now + seconds)
    address.tat = math.max(address.tat, address.pause + report.tolerance)
  end
end
for company, till in pairs(client.pauses) do
  if till <= now then client.pauses[company] = nil end
end

-- The daily quota
if #client.exhausted > 0 and client.exhausted[1] <= now then client.exhausted = {} end
if #client.remaining > 0 and client.remaining[2] <= now then client.remaining = {} end
if #report.exhausted > 0 then
  local till = now + report.exhausted[1]
  if #client.exhausted == 0 or till > client.exhausted[1] then
    client.exhausted = {till, report.exhausted[2], now}
  end
  client.remaining = {0, till, now}
end

local function record_remaining(remaining, till, observed)
  if till <= now then return end
  local left = math.max(0, remaining - math.max(0, in_flight() - 1))
  local known = client.remaining
  if #known > 0 and till < known[2] - SAME_RESET then return end
  local same_day = #known > 0 and till <= known[2] + SAME_RESET
  if same_day and (now - observed > FRESH or observed < known[3]) then
    known[1] = math.min(known[1], left)
    return
  end
  client.remaining = {left, till, observed}
  if #client.exhausted > 0 and left > 0 and observed > client.exhausted[3] then client.exhausted = {} end
end

if #report.remaining > 0 then
  record_remaining(report.remaining[1], now + report.remaining[2], now - report.remaining[3])
end

-- Reservations of runs
for run, state in pairs(client.runs) do
  if state[2] <= now then client.runs[run] = nil end
end
if me and next(report.runs) and report.sequence > me.sequence then
  me.sequence = report.sequence
  local expires = #client.remaining > 0 and client.remaining[2] or now + DAY
  for run, change in pairs(report.runs) do
    local known = client.runs[run]
    local reserved = (known and known[1] or 0) + change
    if reserved > 0 then
      client.runs[run] = {reserved, known and known[2] or expires}
    else
      client.runs[run] = nil
    end
  end
end

local reserved, processes = 0, 0
for _, member in pairs(client.members) do reserved = reserved + member.reserved end
for _, run in pairs(client.runs) do reserved = reserved + run[1] end
for _ in pairs(address.seen) do processes = processes + 1 end
processes = math.max(1, processes)

local function share(ahead)
  if report.interval == 0 then return MAX_PERMITS end
  return math.min(MAX_PERMITS, math.max(1, math.ceil(ahead / report.interval / processes)))
end

local function held_of(company)
  local total = 0
  for _, member in pairs(client.members) do total = total + (member.held[company] or 0) end
  return total
end

-- Permits
local granted, decisions = 0, {}

local function decide(company, background, starts_work, total)
  local remaining = client.remaining
  if #client.exhausted > 0 then return {EXHAUSTED, client.exhausted[1] - now} end
  if starts_work == 1 and #remaining > 0 and reserved > 0 and remaining[1] <= reserved then
    return {DEFERRED, remaining[2] - now}
  end
  if client.pauses[company] then return {COMPANY, client.pauses[company] - now} end
  if company ~= '' and held_of(company) >= report.per_company then return {COMPANY, RETRY} end
  if total >= report.concurrent then return {FULL, RETRY} end
  local ahead = background == 1 and AHEAD_IN_BACKGROUND or AHEAD
  local slot = math.max(now, address.tat - report.tolerance, address.pause)
  if slot - now > ahead then return {LATER, slot - now - ahead} end
  if granted >= share(ahead) then return {LATER, 0} end
  address.tat = math.max(address.tat, slot) + report.interval
  me.held[company] = (me.held[company] or 0) + 1
  if #remaining > 0 then remaining[1] = math.max(0, remaining[1] - 1) end
  granted = granted + 1
  return {GRANTED, slot - now}
end

if me and #report.permits > 0 then
  local total = in_flight()
  for position, permit in ipairs(report.permits) do
    decisions[position] = decide(permit[1], permit[2], permit[3], total + granted)
  end
end

-- About how many requests the last minute had
local start, current, before = address.minute[1], address.minute[2], address.minute[3]
passed = now - start
if passed >= MINUTE then
  if passed < 2 * MINUTE then
    start, before = start + MINUTE, current
  else
    start, before = now, 0
  end
  current, passed = 0, now - start
end
current = current + granted
address.minute = {start, current, before}

local companies = {}
for company, till in pairs(client.pauses) do companies[company] = till - now end
redis.call('SET', KEYS[1], cmsgpack.pack(address), 'EX', 2 * DAY)
redis.call('SET', KEYS[2], cmsgpack.pack(client), 'EX', 2 * DAY)
return cjson.encode({
  permits = decisions,
  processes = processes,
  share = share(AHEAD),
  used = current + before * (1 - passed / MINUTE),
  pause = math.max(0, address.pause - now),
  companies = companies,
  remaining = #client.remaining > 0 and client.remaining[1] or -1,
  reserved = reserved,
  exhausted = #client.exhausted > 0 and client.exhausted[1] - now or 0,
  reset_at = #client.exhausted > 0 and client.exhausted[2] or 0,
  limits = limits,
})
