#!/usr/bin/env node
import { ConfigError, readConfig } from './config.js';

const USAGE = `Usage: craft-server <command>

  start     API, one worker and the embedded provider on this machine
  api       the HTTP API alone
  worker    one training worker
  provider  the embedded black box alone
  migrate   bring the database up to date
  demo      train on the example data set and predict, end to end

README.md lists the environment variables.
`;

// Each command is loaded when it is asked for: a worker needs no HTTP server, the provider needs no database.
async function run(command: string | undefined): Promise<void> {
  switch (command) {
    case 'start':
      return (await import('./commands/start.js')).start(readConfig());
    case 'api':
      return (await import('./commands/api.js')).api(readConfig());
    case 'worker':
      return (await import('./commands/worker.js')).worker(readConfig());
    case 'provider':
      return (await import('./commands/provider.js')).provider(readConfig());
    case 'migrate':
      return (await import('./commands/migrate.js')).migrate(readConfig());
    case 'demo':
      return (await import('./commands/demo.js')).demo(readConfig());
    case 'train-jobs':
      return (await import('./commands/train-jobs.js')).trainJobs(readConfig());
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(USAGE);
      return;
    default:
      process.stderr.write(USAGE);
      process.exitCode = 2;
  }
}

run(process.argv[2]).catch((error: unknown) => {
  const text = error instanceof ConfigError ? error.message : error instanceof Error ? error.stack : String(error);
  process.stderr.write(`${text}\n`);
  process.exit(1);
});
