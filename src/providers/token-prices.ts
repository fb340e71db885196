import { InvalidRequestError } from '../errors.js';
import type { ProviderCapabilities } from './provider.js';

const TOKEN_PRICES = ['per_million_input_tokens_usd', 'per_million_output_tokens_usd'] as const;

/**
 * Refuses prices by the token where nothing says how many tokens a call has: no call could be reserved or settled by them.
 * @throws InvalidRequestError naming the price
 */
export function refuseTokenPrices(
  prices: { [Price in (typeof TOKEN_PRICES)[number]]?: number },
  { tokens }: Pick<ProviderCapabilities, 'tokens'>,
  protocol: string,
): void {
  if (tokens) return;
  const price = TOKEN_PRICES.find((name) => (prices[name] ?? 0) > 0);
  if (price === undefined) return;
  throw new InvalidRequestError({
    code: 'token_prices_not_supported',
    param: `prices.${price}`,
    message: `The protocol ${protocol} says nothing of tokens, so nothing can be counted by them. Leave ${price} out and set prices.per_request_usd or prices.per_image_query_usd.`,
  });
}
