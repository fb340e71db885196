import type { Random } from '../random.js';

const DRAWS = 200;

/**
 * Pseudo-Bayesian model averaging with the Bayesian bootstrap (Yao, Vehtari, Simpson and Gelman, Using stacking to average
 * Bayesian predictive distributions, 2018, section 3.4): how sure it is, by the losses on held-out images, that each model
 * is the best one. Where images disagree, several models share the weight.
 * @param losses of each model those of all images, [models][N], in nats
 * @param priors of each model, what speaks for it before any image is seen; they add up to 1
 * @returns one weight for each model; they add up to 1
 */
export function averageWeights(losses: Float64Array[], priors: number[], random: Random): number[] {
  const images = losses[0].length;
  const weights = losses.map(() => 0);
  const shares = new Float64Array(images);
  for (let draw = 0; draw < DRAWS; draw++) {
    // A flat Dirichlet draw: exponentials over their sum.
    let total = 0;
    for (let i = 0; i < images; i++) {
      shares[i] = -Math.log(1 - random.uniform());
      total += shares[i];
    }
    const evidence = losses.map((own, model) => {
      let sum = 0;
      for (let i = 0; i < images; i++) sum += shares[i] * own[i];
      return Math.log(priors[model]) - (images * sum) / total;
    });
    const most = Math.max(...evidence);
    const exponentials = evidence.map((value) => Math.exp(value - most));
    const sum = exponentials.reduce((all, value) => all + value, 0);
    for (const [model, value] of exponentials.entries()) weights[model] += value / sum / DRAWS;
  }
  return weights;
}
