// Accuracy against image queries as SVG: one panel per data set, a logarithmic axis of queries.
const THEMES = {
  light: {
    paper: '#ffffff',
    ink: '#1f2328',
    faint: '#d1d9e0',
    muted: '#59636e',
    lines: ['#0969da', '#8250df', '#1a7f37', '#cf222e'],
  },
  dark: {
    paper: '#0d1117',
    ink: '#f0f6fc',
    faint: '#3d444d',
    muted: '#9198a1',
    lines: ['#4493f8', '#ab7df8', '#3fb950', '#f85149'],
  },
};
const SIZE = { width: 960, height: 430 };
const PANEL = { width: 400, height: 270, top: 50, lefts: [50, 540] };

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** @param panels data sets with lines of {x, mean, least, most} and levels of {name, y} */
export function plot(panels, theme) {
  const colours = THEMES[theme];
  const parts = panels.map((panel, index) => drawPanel(panel, PANEL.lefts[index], colours));
  const names = [...new Set(panels.flatMap(({ lines }) => lines.map(({ name }) => name)))];
  const legend = names.map((name, index) => {
    const x = 50 + index * 165 + (index > 0 ? 70 : 0);
    return `<rect x="${x}" y="398" width="18" height="4" rx="2" fill="${colours.lines[index]}"/><text x="${x + 26}" y="405" class="ink">${escaped(name)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" role="img" aria-label="Test accuracy against image queries">
<style>text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif}.ink{fill:${colours.ink}}.muted{fill:${colours.muted}}.title{font-weight:600;font-size:14px}.small{font-size:10.5px;paint-order:stroke;stroke:${colours.paper};stroke-width:3px}</style>
<rect width="${SIZE.width}" height="${SIZE.height}" fill="${colours.paper}"/>
${parts.join('\n')}
${legend.join('\n')}
</svg>
`;
}

function drawPanel({ title, lines, levels }, left, colours) {
  const points = lines.flatMap((line) => line.points);
  const [low, high] = [Math.log10(60), Math.ceil(Math.log10(Math.max(...points.map(({ x }) => x)))) || 6];
  const ys = [...points.flatMap(({ least, most }) => [least, most]), ...levels.map(({ y }) => y)];
  const floor = Math.floor((Math.min(...ys) - 1) / 5) * 5;
  const ceiling = Math.ceil((Math.max(...ys) + 1) / 5) * 5;
  const x = (value) => left + ((Math.log10(value) - low) / (high - low)) * PANEL.width;
  const y = (value) => PANEL.top + ((ceiling - value) / (ceiling - floor)) * PANEL.height;
  const bottom = PANEL.top + PANEL.height;
  const parts = [`<text x="${left}" y="${PANEL.top - 22}" class="ink title">${escaped(title)}</text>`];
  for (let value = floor; value <= ceiling; value += 5) {
    parts.push(
      `<line x1="${left}" x2="${left + PANEL.width}" y1="${y(value)}" y2="${y(value)}" stroke="${colours.faint}" stroke-width="0.6"/>`,
      `<text x="${left - 8}" y="${y(value) + 4}" text-anchor="end" class="muted">${value}</text>`,
    );
  }
  for (let exponent = Math.ceil(low); exponent <= high; exponent++) {
    const at = x(10 ** exponent);
    const label = exponent < 6 ? (10 ** exponent).toLocaleString('en') : `${10 ** (exponent - 6)} M`;
    parts.push(
      `<line x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 5}" stroke="${colours.muted}"/>`,
      `<text x="${at}" y="${bottom + 20}" text-anchor="middle" class="muted">${label}</text>`,
    );
  }
  parts.push(
    `<text x="${left + PANEL.width}" y="${bottom + 38}" text-anchor="end" class="muted">budget of image queries for training</text>`,
    `<text x="${left}" y="${PANEL.top - 6}" class="muted small">test accuracy, %</text>`,
  );
  const drawn = drawLevels(levels, left, y, colours);
  parts.push(...drawn.map(({ line }) => line));
  for (const [index, { points: own }] of lines.entries()) {
    const colour = colours.lines[index];
    const upper = own.map((point) => `${x(point.x)},${y(point.most)}`);
    const lower = own.map((point) => `${x(point.x)},${y(point.least)}`).reverse();
    parts.push(
      `<polygon points="${[...upper, ...lower].join(' ')}" fill="${colour}" opacity="0.13"/>`,
      `<polyline points="${own.map((point) => `${x(point.x)},${y(point.mean)}`).join(' ')}" fill="none" stroke="${colour}" stroke-width="2.2" stroke-linejoin="round"/>`,
      ...own.map((point) => `<circle cx="${x(point.x)}" cy="${y(point.mean)}" r="3.4" fill="${colour}"/>`),
    );
  }
  parts.push(...drawn.map(({ label }) => label));
  return parts.join('\n');
}

/** Dashed lines; names that would touch each other move apart. */
function drawLevels(levels, left, y, colours) {
  const sorted = [...levels].sort((a, b) => b.y - a.y);
  let last = Number.NEGATIVE_INFINITY;
  return sorted.map(({ name, y: value }) => {
    const at = y(value);
    const below = Math.max(at - 4, last + 13);
    last = below;
    const line = `<line x1="${left}" x2="${left + PANEL.width}" y1="${at}" y2="${at}" stroke="${colours.muted}" stroke-width="1" stroke-dasharray="4 4"/>`;
    return {
      line,
      label: `<text x="${left + PANEL.width * 0.52}" y="${below}" text-anchor="end" class="muted small">${escaped(name)} ${value.toFixed(1)}</text>`,
    };
  });
}
