--- argument
local out = {}
for i = 1, #ARGV[1], 8 do
  out[#out + 1] = redis.call('ECHO', (struct.unpack('<d', string.sub(ARGV[1], i, i + 7))))
end
return table.concat(out, '\n')
--- double
local out = {}
for i = 1, #ARGV[1], 8 do
  out[#out + 1] = {double = struct.unpack('<d', string.sub(ARGV[1], i, i + 7))}
end
return out
--- zscore
local out = {}
for i = 1, #ARGV[1], 8 do
  local score = string.format('%.17g', struct.unpack('<d', string.sub(ARGV[1], i, i + 7)))
  local added = redis.pcall('ZADD', 'z', score, 'm')
  out[#out + 1] = type(added) == 'table' and added.err or redis.call('ZSCORE', 'z', 'm')
end
redis.call('DEL', 'z')
return table.concat(out, '\n')
--- zincrby
local out = {}
for i = 1, #ARGV[1], 8 do
  local step = string.format('%.17g', struct.unpack('<d', string.sub(ARGV[1], i, i + 7)))
  local sum = redis.pcall('ZINCRBY', 'z', step, 'm')
  out[#out + 1] = type(sum) == 'table' and sum.err or sum
  redis.call('ZADD', 'z', '0.1', 'm')
end
redis.call('DEL', 'z')
return table.concat(out, '\n')
--- incrbyfloat
local out = {}
for i = 1, #ARGV[1], 8 do
  local step = string.format('%.17g', struct.unpack('<d', string.sub(ARGV[1], i, i + 7)))
  redis.call('SET', 'k', '0.1')
  local sum = redis.pcall('INCRBYFLOAT', 'k', step)
  out[#out + 1] = type(sum) == 'table' and sum.err or sum
end
redis.call('DEL', 'k')
return table.concat(out, '\n')
--- hincrbyfloat
local out = {}
for i = 1, #ARGV[1], 8 do
  local step = string.format('%.17g', struct.unpack('<d', string.sub(ARGV[1], i, i + 7)))
  local sum = redis.pcall('HINCRBYFLOAT', 'h', 'f', step)
  out[#out + 1] = type(sum) == 'table' and sum.err or sum
  redis.call('DEL', 'h')
end
return table.concat(out, '\n')
