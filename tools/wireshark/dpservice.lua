-- SPDX-License-Identifier: Apache-2.0
--
-- Shows the copies of dpservice's captures in Wireshark and tshark: whose they are, and the captured frame as if it had
-- been received by itself. For Wireshark 4.0 and later (Lua 5.2 to 5.4).

local copy = Proto("dpservice", "dpservice capture")

copy.prefs.ports = Pref.range("UDP ports", "3000,3010-3073", "Ports that copies are sent to or from. On others they are recognised by their headers.", 65535)
copy.prefs.names = Pref.string("Names", "", "A file that names interfaces and nodes: lines such as fc00:1::1/7=vm-1, 7=vm-1 and fc00:1::1=hv1")
copy.prefs.ask = Pref.bool("Ask dpctl", true, "Learn the names of interfaces from the daemon, by dpctl capture names")

local label_field = ProtoField.uint32("dpservice.label", "Label")
local direction_field = ProtoField.string("dpservice.direction", "Direction")
local interface_field = ProtoField.string("dpservice.interface", "Interface")
local node_field = ProtoField.string("dpservice.node", "Node")
local reason_field = ProtoField.string("dpservice.drop_reason", "Dropped for")
copy.fields = { label_field, direction_field, interface_field, node_field, reason_field }

local flow_label = Field.new("ipv6.flow")
local outer_source = Field.new("ipv6.src")
local checksum = Field.new("udp.checksum")

local ethernet_len = 14
-- Labels have this added for what a guest receives.
local tx = 524288
local max_label = 65536
-- Labels of dropped packets are this, the reason in units of reason_unit, and the label of what the guest sends.
local drop = 262144
local reason_unit = 4096

local directions = {
	rx = "rx: sent by the guest, or arrived at the PF",
	tx = "tx: received by the guest",
	drop = "drop: from the guest or for it, or at the PF for none, and dropped by the software",
}

-- By number, from 0 on.
local reasons = {
	[0] = "malformed", "no_interface", "not_for_us", "multicast", "martian_source", "unspecified", "loopback", "link_local",
	"broadcast", "reserved", "to_gateway", "tagged", "unsupported", "spoofed", "wrong_peer", "local_source", "no_route",
	"no_neighbour", "unknown_underlay", "unknown_mark", "ttl", "too_big", "no_headroom", "tx", "punt_full", "punt_rate",
}

-- The values of the innermost headers so far are those of the copy, since the captured frame comes behind them.
local function last(field)
	local all = { field() }
	return all[#all]
end

-- parse returns whose copy a label is: the label of what the guest sends, and the direction. If that is drop, the reason
-- comes third.
local function parse(label)
	if label > tx and label <= tx + max_label then
		return label - tx, "tx"
	elseif label > drop and label < tx and label % reason_unit > 0 then
		local number = math.floor((label - drop) / reason_unit)
		return label % reason_unit, "drop", reasons[number] or "reason-" .. number
	elseif label > 0 and label <= max_label then
		return label, "rx"
	end
end

local names = {} -- by NODE/LABEL, LABEL and NODE
local asked = 0

-- learn takes the names from lines of text. The label of a name is the one of what a guest sends.
local function learn(lines)
	for line in lines do
		local key, name = line:match("^%s*([^=#%s]+)=(.-)%s*$")
		if key and name ~= "" then
			names[key:lower()] = name
		end
	end
end

local function learn_from_file()
	if copy.prefs.names ~= "" then
		local file = io.open(copy.prefs.names)
		if file then
			learn(file:lines())
			file:close()
		end
	end
end

-- learn_from_daemon asks again after some seconds only: a file may have many copies of nodes that it does not know.
local function learn_from_daemon()
	local patience, unix = 3, package.config:sub(1, 1) == "/"
	if not copy.prefs.ask or not unix or os.time() - asked < patience then
		return
	end
	asked = os.time()
	local answer = io.popen("dpctl --timeout=1s capture names 2>/dev/null")
	if answer then
		learn(answer:lines())
		answer:close()
	end
end

local function lookup(node, label)
	return names[node .. "/" .. label] or names[tostring(label)]
end

local function name_of(node, label)
	local name = lookup(node, label)
	if not name then
		learn_from_daemon()
		name = lookup(node, label)
	end
	return name
end

-- show dissects a copy. It returns false for a packet that is none.
local function show(tvb, pinfo, tree)
	local flow, source, sum = last(flow_label), last(outer_source), last(checksum)
	if not flow or not source or not sum or sum.value ~= 0 or tvb:len() < ethernet_len then
		return false
	end
	local label, direction, reason = parse(flow.value)
	if not label then
		return false
	end
	local node = tostring(source.value)
	local interface = name_of(node, label) or "label-" .. label
	local point = interface .. " " .. direction .. (reason and " " .. reason or "")
	local node_name = names[node] or node

	local subtree = tree:add(copy, tvb(0, 0), "dpservice capture: " .. point .. ", node " .. node_name)
	subtree:add(interface_field, interface):set_generated()
	subtree:add(direction_field, direction):append_text(" (" .. directions[direction] .. ")"):set_generated()
	if reason then
		subtree:add(reason_field, reason):set_generated()
	end
	subtree:add(label_field, flow.value):set_generated()
	subtree:add(node_field, node_name):set_generated()

	Dissector.get("eth_withoutfcs"):call(tvb, pinfo, tree)
	pinfo.cols.info:prepend("[" .. point .. "] ")
	return true
end

-- What the EtherType of a captured frame may be, and how the byte behind it begins.
local plausible = {
	[0x0800] = 4, [0x86dd] = 6, -- the version of IP
	[0x0806] = -1, [0x8100] = -1, [0x88a8] = -1, [0x8847] = -1, [0x8863] = -1, [0x8864] = -1, [0x88cc] = -1,
}

copy:register_heuristic("udp", function(tvb, pinfo, tree)
	if tvb:len() <= ethernet_len then
		return false
	end
	local version = plausible[tvb(ethernet_len - 2, 2):uint()]
	local fits = version == -1 or version == math.floor(tvb(ethernet_len, 1):uint() / 16)
	return fits and show(tvb, pinfo, tree)
end)

local udp = DissectorTable.get("udp.port")
local others = {} -- the dissectors that our ports had before: 3000, say, is a protocol's of simulators

function copy.dissector(tvb, pinfo, tree)
	if show(tvb, pinfo, tree) then
		return tvb:len()
	end
	local other = others[pinfo.match_uint]
	return other and other:call(tvb, pinfo, tree) or 0
end

-- each calls f with every port of a range, such as 3000,3010-3073.
local function each(range, f)
	for first, _, final in range:gmatch("(%d+)(%-?)(%d*)") do
		for port = tonumber(first), tonumber(final) or tonumber(first) do
			f(port)
		end
	end
end

local registered

local function register()
	registered = copy.prefs.ports
	each(registered, function(port)
		others[port] = udp:get_dissector(port)
		udp:add(port, copy)
	end)
end

local function unregister()
	each(registered, function(port)
		udp:remove(port, copy)
		if others[port] then
			udp:add(port, others[port])
		end
	end)
	others = {}
end

register()

function copy.prefs_changed()
	unregister()
	register()
	names, asked = {}, 0
	learn_from_file()
end

function copy.init()
	learn_from_file()
end
