import { SingleBar } from 'cli-progress';

/** Shows how far training is: a bar in a terminal, a line for every tenth elsewhere. */
export interface Progress {
  update(generation: number, trainAccuracy: number | null): void;
  stop(): void;
}

export function showProgress(generations: number): Progress {
  return process.stdout.isTTY ? bar(generations) : lines(generations);
}

function percent(share: number | null): string {
  return share === null ? '–' : `${(share * 100).toFixed(1)} %`;
}

function bar(generations: number): Progress {
  const single = new SingleBar({
    format: '  training [{bar}] generation {value}/{total}, training accuracy {accuracy}, {eta_formatted} left',
    hideCursor: true,
  });
  single.start(generations, 0, { accuracy: '–' });
  return {
    update: (generation, trainAccuracy) => single.update(generation, { accuracy: percent(trainAccuracy) }),
    stop: () => single.stop(),
  };
}

function lines(generations: number): Progress {
  let shown = 0;
  return {
    update(generation, trainAccuracy) {
      const tenth = Math.floor((generation * 10) / generations);
      if (tenth <= shown) return;
      shown = tenth;
      process.stdout.write(`  generation ${generation}/${generations}, training accuracy ${percent(trainAccuracy)}\n`);
    },
    stop() {},
  };
}
