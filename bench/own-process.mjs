// A server for a benchmark to measure, in a process of its own, as the service runs. The module sends its URL to its parent
// and ends when that disconnects.
import { fork } from 'node:child_process';

/**
 * @param {string} module path of the module, which is run with the argument
 * @param {string} argument
 */
export async function startOwnProcess(module, argument) {
  const child = fork(module, [argument], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const url = await new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', (code) => reject(new Error(`${module} ended with status ${code}.`)));
  });
  return {
    url,
    stop: () =>
      new Promise((resolve) => {
        child.removeAllListeners('exit').once('exit', resolve);
        child.disconnect();
      }),
  };
}
