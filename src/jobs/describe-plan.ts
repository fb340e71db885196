import type { TrainingPlan } from './plan.js';

/** A plan in the words of a job's events. */
export function describePlan(plan: TrainingPlan): string {
  const spent = `${plan.total.promptEvaluations} prompt evaluations, ${plan.total.imageQueries} image queries, ${plan.total.requests} requests`;
  const rounds = plan.rounds && plan.rounds > 1 ? ` (in ${plan.rounds} rounds)` : '';
  const what = plan.strategy === 'economy' ? 'views' : 'generations';
  const most = plan.decidedBy === 'views' ? ' More views are not asked about, whatever the budget.' : '';
  return (
    `The plan, by strategy ${plan.strategy}: ${plan.generations} ${what} of ${plan.trainingImages} training images ` +
    `of ${plan.classes} classes${rounds}, ${spent}.${most} ${plan.strategyReason ?? ''}`.trimEnd()
  );
}
