import type { ContentFault } from '../misbehaviour.js';
import { logSoftmax } from '../softmax.js';
import type { ChatRequest } from './chat-request.js';

interface TokenLogprob {
  token: string;
  /** null where it is not a number. */
  logprob: number | null;
  /** The token in UTF-8. */
  bytes: number[];
}

/** A chat completion of one token: the key of the most probable option. */
export function chatAnswer(
  { model, options, maxTokens, topLogprobs }: ChatRequest,
  id: string,
  promptTokens: number,
  logits: Float32Array,
  fault: ContentFault | undefined,
) {
  const ranked = logSoftmax(logits)
    .map((logprob, i) => ({ token: options[i].key, logprob, bytes: [...Buffer.from(options[i].key)] }))
    .sort((a, b) => b.logprob - a.logprob);
  const choice = {
    index: 0,
    message: { role: 'assistant', content: contentOf(ranked[0], topLogprobs, fault), refusal: null },
    logprobs: topLogprobs === undefined ? null : logprobsOf(ranked, topLogprobs, fault),
    finish_reason: maxTokens === 1 ? 'length' : 'stop',
  };
  return {
    id,
    object: 'chat.completion',
    created: Math.floor(Date.now() / 1000),
    model,
    choices: fault === 'wrong_count' ? [] : [choice],
    usage: { prompt_tokens: promptTokens, completion_tokens: 1, total_tokens: promptTokens + 1 },
  };
}

function contentOf(best: TokenLogprob, topLogprobs: number | undefined, fault: ContentFault | undefined) {
  // Where log probabilities are asked for, it is they that are spoilt.
  if (topLogprobs !== undefined) return best.token;
  if (fault === 'missing_value') return null;
  return fault === 'missing_label' ? '' : best.token;
}

function logprobsOf(ranked: TokenLogprob[], count: number, fault: ContentFault | undefined) {
  if (fault === 'missing_value') return null;
  const [first, ...others] = fault === 'nan' ? [{ ...ranked[0], logprob: null }, ...ranked.slice(1)] : ranked;
  const top = [first, ...others].slice(0, count);
  return {
    content: [{ ...first, top_logprobs: fault === 'missing_label' ? top.slice(0, -1) : top }],
    refusal: null,
  };
}
