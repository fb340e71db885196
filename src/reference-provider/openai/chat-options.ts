import { InvalidRequestError } from '../../errors.js';
import { LIMITS } from '../infer-request.js';
import { MAX_TEXT_BYTES } from '../parse-input.js';

/** One of the answers that a question offers, such as `B: a photo of a cat.` */
export interface Option {
  key: string;
  text: string;
}

// A key is up to three letters or digits, or four digits: a line such as "Answer: one letter" is no option.
const OPTION = /^[ \t]*([A-Za-z0-9]{1,3}|[0-9]{4})[:).][ \t]+(\S.*?)[ \t\r]*$/gm;
const FIELD = 'messages';

/**
 * The options of a question, one a line: `KEY: text`, `KEY) text` or `KEY. text`.
 * @throws InvalidRequestError when there are fewer than two, or a key stands for two texts.
 */
export function readOptions(text: string): Option[] {
  const options = Array.from(text.matchAll(OPTION), ([, key, text]) => ({ key, text }));
  const { max_classes_per_request: most } = LIMITS;
  if (options.length < 2 || options.length > most) {
    throw invalid(
      `${options.length} options found, 2 to ${most} are possible; write each on a line of its own, as "A: text".`,
    );
  }
  const keys = new Set<string>();
  for (const { key, text } of options) {
    if (keys.has(key)) throw invalid(`The option ${key} is there twice; give every option a key of its own.`);
    if (Buffer.byteLength(text) > MAX_TEXT_BYTES) {
      throw invalid(`The option ${key} is longer than ${MAX_TEXT_BYTES} bytes; shorten it.`);
    }
    keys.add(key);
  }
  return options;
}

function invalid(message: string): InvalidRequestError {
  return new InvalidRequestError({ code: 'invalid_options', message, param: FIELD });
}
