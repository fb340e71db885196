// docs/accuracy.md and the plots of what bench/accuracy.mjs has measured.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { plot } from './accuracy-plot.mjs';

const DATA_SETS = ['fluent-contrast-subgroups', 'fluent-flat-subgroups'];
const DOCUMENT = fileURLToPath(new URL('../docs/accuracy.md', import.meta.url));
const START = '<!-- measured -->';
const END = '<!-- /measured -->';

/** Of the PyTorch reference, test accuracy in %, seeds 1 to 3, 16 shots; examples/README.md. */
const REFERENCE = {
  'white box: linear probe on image features': [
    [55.39, 54.76, 52.01],
    [58.99, 64.69, 60.04],
  ],
  'white box: context tokens by gradient': [
    [43.55, 45.03, 41.44],
    [66.6, 62.79, 63.21],
  ],
  'refinement head alone, 200 epochs': [
    [52.85, 53.49, 50.53],
    [62.16, 65.96, 63.85],
  ],
  'the published algorithm, 8,000 prompt evaluations': [
    [50.74, 47.78, 48.2],
    [64.06, 66.38, 62.58],
  ],
};

/** What must be reached, means over seeds: [strategy, shots, N's, queries a prediction, contrast, flat]. */
const TARGETS = [
  ['paper', 16, 8200, 1, 47.9, 63.3],
  ['economy', 16, 1, 1, 56.5, 70.5],
  ['economy', 4, 1, 1, 45.0, 68.5],
  ['economy', 16, 8, 1, 58.0, 70.5],
  ['economy', 16, 8, 2, 59.0, 71.0],
];
const STRETCH = [61.0, 72.5];

const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;

function groupOf(rows, { data, strategy, shots, factor, queries }) {
  return rows.filter(
    (row) =>
      row.data === data &&
      row.strategy === strategy &&
      row.shots === shots &&
      row.factor === factor &&
      row.queries === queries,
  );
}

/** Mean, smallest and largest over seeds. */
function spread(group, field = 'accuracy') {
  const all = group.map((row) => row[field]);
  return { mean: mean(all), least: Math.min(...all), most: Math.max(...all), seeds: all.length };
}

export function checkTargets(rows) {
  const lines = targetLines(rows);
  if (lines.length > 0) console.log(`\n${lines.map((line) => line.join('  ')).join('\n')}`);
}

function targetLines(rows) {
  const lines = [];
  for (const [strategy, shots, factor, queries, ...targets] of TARGETS) {
    const cells = DATA_SETS.map((data, index) => {
      const group = groupOf(rows, { data, strategy, shots, factor, queries });
      if (group.length === 0) return '–';
      const { mean: reached } = spread(group);
      return `${reached.toFixed(1)} (${targets[index].toFixed(1)} ${reached >= targets[index] ? '✓' : '✗'})`;
    });
    if (cells.some((cell) => cell !== '–')) {
      lines.push([
        `${strategy}, ${nTimes(factor)}, ${shots} shots, ${queries} ${queries === 1 ? 'query' : 'queries'} a prediction`,
        ...cells,
      ]);
    }
  }
  const best = DATA_SETS.map((data, index) => {
    const settings = rows.filter((row) => row.data === data && row.strategy === 'economy' && row.factor <= 200);
    const means = settings.map((row) => spread(groupOf(rows, row)).mean);
    if (means.length === 0) return '–';
    const reached = Math.max(...means);
    return `${reached.toFixed(1)} (${STRETCH[index].toFixed(1)} ${reached >= STRETCH[index] ? '✓' : '✗'})`;
  });
  if (best.some((cell) => cell !== '–')) lines.push(['economy, any budget up to 200·N (a stretch)', ...best]);
  return lines;
}

function nTimes(factor) {
  if (factor === 1) return 'N';
  return `${factor >= 1000 ? factor.toLocaleString('en') : factor}·N`;
}

function table(head, lines) {
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** One line per setting: mean and range of both data sets. */
function settingLines(rows, settings) {
  return settings.flatMap(({ strategy, shots, factor, queries }) => {
    const groups = DATA_SETS.map((data) => groupOf(rows, { data, strategy, shots, factor, queries }));
    if (groups.some((group) => group.length === 0)) return [];
    const cells = groups.map((group) => {
      const { mean: average, least, most } = spread(group);
      return `**${average.toFixed(1)}** (${least.toFixed(1)} to ${most.toFixed(1)})`;
    });
    const used = groups.map((group) => Math.round(mean(group.map((row) => row.used))).toLocaleString('en'));
    return [[strategy, nTimes(factor), used[0] === used[1] ? used[0] : used.join(' / '), String(queries), ...cells]];
  });
}

export function writeDocument(rows) {
  const settings = [
    ...new Map(rows.map((row) => [[row.strategy, row.shots, row.factor, row.queries].join(), row])).values(),
  ];
  const order = (a, b) => a.strategy.localeCompare(b.strategy) || a.queries - b.queries || a.factor - b.factor;
  const full = settings.filter(({ shots }) => shots === 16).sort(order);
  const head = [
    'strategy',
    'budget',
    'image queries spent',
    'queries a prediction',
    'fluent-contrast-subgroups',
    'fluent-flat-subgroups',
  ];
  const zeroShot = DATA_SETS.map((data) =>
    mean(rows.filter((row) => row.data === data).map((row) => row.zeroShot)).toFixed(1),
  );
  const lines = [
    ['zero-shot', '0', '0', '1', ...zeroShot],
    ...settingLines(rows, full),
    ...Object.entries(REFERENCE).map(([name, sets]) => [
      `*reference:* ${name}`,
      '',
      '',
      '',
      ...sets.map(
        (own) => `${mean(own).toFixed(1)} (${Math.min(...own).toFixed(1)} to ${Math.max(...own).toFixed(1)})`,
      ),
    ]),
  ];
  const byShots = [1, 2, 4, 8, 16].flatMap((shots) =>
    [1, 8].flatMap((factor) => {
      const groups = DATA_SETS.map((data) => groupOf(rows, { data, strategy: 'economy', shots, factor, queries: 1 }));
      if (groups.some((group) => group.length === 0)) return [];
      const cells = groups.map((group) => {
        const { mean: average } = spread(group);
        const gain = average - spread(group, 'zeroShot').mean;
        return `${average.toFixed(1)} (${gain >= 0 ? '+' : '−'}${Math.abs(gain).toFixed(1)})`;
      });
      return [[String(shots), nTimes(factor), ...cells]];
    }),
  );
  const text = [
    '### What was to be reached\n',
    table(['', ...DATA_SETS], targetLines(rows)),
    '\n### Every strategy and budget, 16 shots\n',
    'Test accuracy in %: mean (least to most) over the seeds. N is the number of training images, 352.\n',
    table(head, lines),
    '\n### Fewer shots\n',
    'Strategy economy, one query a prediction; in brackets the gain over zero-shot.\n',
    table(['shots', 'budget', ...DATA_SETS], byShots),
  ].join('\n');
  const before = readFileSync(DOCUMENT, 'utf8');
  const [start, end] = [before.indexOf(START), before.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`docs/accuracy.md lacks ${START} and ${END}.`);
  writeFileSync(DOCUMENT, `${before.slice(0, start + START.length)}\n${text}\n${before.slice(end)}`);
  for (const theme of ['light', 'dark']) {
    const file = fileURLToPath(new URL(`../docs/accuracy-${theme}.svg`, import.meta.url));
    writeFileSync(file, plot(seriesOf(rows), theme));
  }
}

/** What the plot shows of each data set: lines over image queries, and levels. */
function seriesOf(rows) {
  return DATA_SETS.map((data, index) => {
    const own = rows.filter((row) => row.data === data && row.shots === 16);
    const line = (name, choose) => {
      const chosen = own.filter(choose);
      const factors = [...new Set(chosen.map(({ factor }) => factor))].sort((a, b) => a - b);
      const points = factors.map((factor) => {
        const group = chosen.filter((row) => row.factor === factor);
        return { x: factor * group[0].images, ...spread(group) };
      });
      return { name, points };
    };
    return {
      title: data,
      lines: [
        line(
          'economy, 1 query a prediction',
          ({ strategy, queries, factor }) => strategy === 'economy' && queries === 1 && factor >= 0.2,
        ),
        line('economy, 2 queries', ({ strategy, queries }) => strategy === 'economy' && queries === 2),
        line('economy, 8 queries', ({ strategy, queries }) => strategy === 'economy' && queries === 8),
        line('the published algorithm', ({ strategy }) => strategy === 'paper'),
      ].filter(({ points }) => points.length > 0),
      levels: [
        { name: 'zero-shot', y: mean(own.map((row) => row.zeroShot)) },
        { name: 'head only', y: mean(REFERENCE['refinement head alone, 200 epochs'][index]) },
        { name: 'white box: linear probe', y: mean(REFERENCE['white box: linear probe on image features'][index]) },
        { name: 'white box: context by gradient', y: mean(REFERENCE['white box: context tokens by gradient'][index]) },
      ],
    };
  });
}
