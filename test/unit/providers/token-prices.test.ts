import { describe, expect, it } from 'vitest';
import { refuseTokenPrices } from '../../../src/providers/token-prices.js';

const TOKENS = { perImage: 1, perRequest: 1, bytesPerToken: 1, outputPerRequest: 1 };

describe('prices by the token', () => {
  it.each(['per_million_input_tokens_usd', 'per_million_output_tokens_usd'])(
    'are refused by name where nothing is counted by it: %s',
    (price) => {
      for (const capabilities of [{}, { tokens: null }]) {
        expect(() => refuseTokenPrices({ [price]: 0.1 }, capabilities, 'hugging_face')).toThrow(
          expect.objectContaining({ code: 'token_prices_not_supported', param: `prices.${price}`, status: 400 }),
        );
      }
    },
  );

  it('are taken where tokens are counted, and 0 everywhere', () => {
    const prices = { per_million_input_tokens_usd: 0.1, per_million_output_tokens_usd: 0.4 };
    expect(() => refuseTokenPrices(prices, { tokens: TOKENS }, 'openai_chat')).not.toThrow();
    expect(() => refuseTokenPrices({ per_million_input_tokens_usd: 0 }, {}, 'custom_http')).not.toThrow();
  });
});
