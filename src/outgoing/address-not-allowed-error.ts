import { InvalidRequestError } from '../errors.js';

/** 400: a URL leads to an address that this service must not call. Nothing was sent. */
export class AddressNotAllowedError extends InvalidRequestError {
  constructor(message: string, param: string | null = null) {
    super({ code: 'address_not_allowed', message, param });
  }
}
