// Where the nodes of the map stand: from their names and the room alone, so that everybody sees the same picture and
// nothing jumps when a node changes its state.

const MOST_ON_ONE_RING = 8;
const STEPS = 240;
const INNERMOST = 0.4; // room around the node in the middle, in distances of rings
const ELBOW = 0.62; // least distance of rings, in distances of neighbours on a ring

// Points of an ellipse at equal distances along it, the first at the angle `start`.
function around(count, rx, ry, start) {
  const lengths = [0];
  const at = (step) => start + (step / STEPS) * 2 * Math.PI;
  for (let step = 1; step <= STEPS; step += 1) {
    const dx = rx * (Math.cos(at(step)) - Math.cos(at(step - 1)));
    const dy = ry * (Math.sin(at(step)) - Math.sin(at(step - 1)));
    lengths.push(lengths[step - 1] + Math.hypot(dx, dy));
  }
  const points = [];
  let step = 0;
  for (let i = 0; i < count; i += 1) {
    const wanted = (i / count) * lengths[STEPS];
    while (lengths[step + 1] < wanted) step += 1;
    const share = (wanted - lengths[step]) / (lengths[step + 1] - lengths[step] || 1);
    const angle = at(step + share);
    points.push({ x: rx * Math.cos(angle), y: ry * Math.sin(angle) });
  }
  return points;
}

// Ramanujan's first approximation
const perimeter = (a, b) => Math.PI * (3 * (a + b) - Math.sqrt((3 * a + b) * (a + 3 * b)));

function rings(count, rx, ry) {
  for (let gap = 120; gap > 20; gap -= 4) {
    for (let number = 1; number <= 6; number += 1) {
      if (Math.min(rx, ry) / (number + INNERMOST) < gap * ELBOW) break;
      const sizes = Array.from({ length: number }, (_, i) => (i + 1 + INNERMOST) / (number + INNERMOST));
      const capacities = sizes.map((size) => Math.floor(perimeter(rx * size, ry * size) / gap));
      const total = capacities.reduce((sum, each) => sum + each, 0);
      if (total < count) continue;
      // the same share of every ring is taken, the remainder outside, where there is most room
      const taken = capacities.map((each) => Math.floor((each * count) / total));
      let left = count - taken.reduce((sum, each) => sum + each, 0);
      for (let i = number - 1; left > 0; i = i ? i - 1 : number - 1) if (taken[i] < capacities[i]) { taken[i] += 1; left -= 1; }
      return { gap, rings: sizes.map((size, i) => ({ rx: rx * size, ry: ry * size, count: taken[i] })) };
    }
  }
  return { gap: 20, rings: [{ rx, ry, count }] };
}

// `own` stands in the middle of many, or on top of a few; `others` come in the order in which they are to stand, from
// the inside out. Returns name → {x, y}, and `gap`, the least distance between neighbours.
export function layout(own, others, width, height) {
  const x = width / 2, y = height / 2 - 6;
  const rx = Math.max(40, width / 2 - 54), ry = Math.max(40, height / 2 - 46);
  const places = new Map();
  const put = (name, point) => places.set(name, { x: x + point.x, y: y + point.y });
  if (!others.length) {
    put(own, { x: 0, y: 0 });
    return { places, gap: 120 };
  }
  if (others.length < MOST_ON_ONE_RING) {
    const round = { x: Math.min(rx, ry * 1.5), y: Math.min(ry, rx * 1.2) };
    // a triangle stands on its base: its middle is above that of the circle
    const lift = others.length === 2 ? round.y * 0.22 : 0;
    const points = others.length === 1
      ? [{ x: -round.x * 0.6, y: 0 }, { x: round.x * 0.6, y: 0 }]
      : around(others.length + 1, round.x, round.y, -Math.PI / 2).map((point) => ({ x: point.x, y: point.y + lift }));
    [own, ...others].forEach((name, i) => put(name, points[i]));
    return { places, gap: others.length === 1 ? 120 : Math.min(120, perimeter(round.x, round.y) / (others.length + 1)) };
  }
  put(own, { x: 0, y: 0 });
  const found = rings(others.length, rx, ry);
  let next = 0;
  found.rings.forEach((ring, i) => {
    const start = -Math.PI / 2 + (i % 2 ? Math.PI / Math.max(1, ring.count) : 0);
    for (const point of around(ring.count, ring.rx, ring.ry, start)) { put(others[next], point); next += 1; }
  });
  return { places, gap: found.gap };
}

// The node next to `from` in the direction of an arrow key; `from` itself where there is none.
export function neighbour(places, from, key) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const here = places.get(from);
  let best = from, least = Infinity;
  for (const [name, place] of places) {
    const along = (place.x - here.x) * dx + (place.y - here.y) * dy;
    const aside = Math.abs((place.x - here.x) * dy) + Math.abs((place.y - here.y) * dx);
    if (name === from || along <= 1 || aside > along * 3) continue;
    const cost = along + aside * 2;
    if (cost < least) { best = name; least = cost; }
  }
  return best;
}
