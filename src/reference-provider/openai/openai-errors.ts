import type { Problem } from '../problem.js';

/** An error as OpenAI's clients read it. */
export function openAiError({ status, message, code, param }: Problem) {
  return { error: { message, type: typeOf(status), param, code: status === 401 ? 'invalid_api_key' : (code ?? null) } };
}

function typeOf(status: number): string {
  if (status === 429) return 'requests';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}
