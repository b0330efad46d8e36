// Runs with the npm package sparkplug-payload: payloads as hex on standard input, what they hold as JSON.
// The last line is an NCMD that the package writes itself.
const spb = require("sparkplug-payload").get("spBv1.0");
const plain = (value) => {
  if (value === null || value === undefined) return null;
  if (typeof value === "object" && "low" in value) return value.toString();
  return Number.isInteger(value) ? String(value) : value;
};
const lines = require("fs").readFileSync(0, "utf8").trim().split("\n");
for (const line of lines) {
  const [, , raw] = line.split(" ");
  const found = spb.decodePayload(Buffer.from(raw, "hex"));
  console.log(
    JSON.stringify({
      seq: plain(found.seq),
      timestamp: plain(found.timestamp),
      metrics: found.metrics.map((m) => [
        m.name,
        m.type ? m.type.toLowerCase() : null,
        m.type === "Double" ? m.value ?? null : plain(m.value),
        plain(m.timestamp),
        !!m.isHistorical,
      ]),
    }),
  );
}
const metrics = [
  { name: "Node Control/Rebirth", type: "Boolean", value: true, timestamp: 6 },
  { name: "a", type: "Int32", value: -7, timestamp: 6 },
  { name: "b", type: "Double", value: 0.5, timestamp: 6 },
  { name: "c", type: "String", value: "é", timestamp: 6 },
];
console.log(Buffer.from(spb.encodePayload({ timestamp: 5, metrics })).toString("hex"));
