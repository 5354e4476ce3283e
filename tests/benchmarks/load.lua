-- Load for wrk. MODE=create posts a new user each time; MODE=read reads tokens from the file TOKENS.
local mode = os.getenv("MODE")
local credential = io.open(os.getenv("CREDENTIAL")):read("l")
local round = tonumber(os.getenv("ROUND"))
local count, tokens = 0, {}

wrk.headers["Authorization"] = "Bearer " .. credential
wrk.headers["Content-Type"] = "application/json"

if mode == "read" then
  for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = line end
end

function request()
  count = count + 1
  if mode == "read" then
    return wrk.format("GET", "/v1/collections/users/records/" .. tokens[math.random(#tokens)] .. "?reveal=plain")
  end
  local name = "u" .. count .. "r" .. round
  local body = '{"data":{"email":"' .. name .. '@example.com","phone":"+4930' .. (10000000 + round * 200000 + count) ..
    '","login":"' .. name .. '","name":"Ada Lovelace","street":"' .. string.rep("x", 500) .. '"}}'
  return wrk.format("POST", "/v1/collections/users/records", nil, body)
end

local refused = 0
function response(status) if status >= 300 then refused = refused + 1 end end

function done(summary, latency)
  io.write(string.format("RESULT %.1f %d %d %.2f %.2f\n", summary.requests / (summary.duration / 1e6), summary.requests,
    summary.errors.status + summary.errors.timeout + summary.errors.connect, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
