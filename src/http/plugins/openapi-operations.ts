/** What the OpenAPI document says of all routes alike: answers, their headers, and what the routes' schemas have no words for. */

interface Response {
  description: string;
  headers?: object;
}

interface Parameter {
  in: string;
  schema: { type?: string | string[]; anyOf?: { type?: string }[] };
  style?: string;
  explode?: boolean;
}

interface Operation {
  parameters?: Parameter[];
  requestBody?: { required?: boolean; content: Record<string, { schema: object }> };
  responses: Record<string, Response | { $ref: string }>;
}

type Document = { paths?: unknown; components?: object };

const HEADERS = {
  RequestId: {
    description: 'The id of the request, by which the operator finds it in the log.',
    schema: { type: 'string' },
  },
  RetryAfter: {
    description: 'Seconds after which the same request may succeed, where that is known.',
    schema: { type: 'integer' },
  },
  ShouldRetry: {
    description: 'false where the same request must not be repeated: it would fail again, or be paid for twice.',
    schema: { type: 'string', enum: ['false'] },
  },
};

const reference = (name: keyof typeof HEADERS) => ({ $ref: `#/components/headers/${name}` });

const OF_EVERY_ANSWER = { 'x-request-id': reference('RequestId') };
const OF_ERRORS = {
  ...OF_EVERY_ANSWER,
  'retry-after': reference('RetryAfter'),
  'x-should-retry': reference('ShouldRetry'),
};

/** The error answers, by the status under which routes have them. */
const ERRORS: Record<string, { name: string; description: string }> = {
  '4XX': {
    name: 'Refused',
    description: 'The error says why, what to do about it and, where one is to blame, which field.',
  },
  '5XX': { name: 'Failed', description: 'The service or the provider failed.' },
};

const NO_DESCRIPTION = 'Default Response';

/** Describes parameters that are objects, each answer and its headers, and says which bodies may be left out: those that have a default as a whole. */
export function describeOperations<Described extends Document>(document: Described): Described {
  const paths = (document.paths ?? {}) as Record<string, Record<string, Operation>>;
  for (const { parameters = [], responses, requestBody } of Object.values(paths).flatMap((methods) =>
    Object.values(methods),
  )) {
    for (const [status, response] of Object.entries(responses)) {
      if (status in ERRORS) responses[status] = { $ref: `#/components/responses/${ERRORS[status].name}` };
      else if ('description' in response) describe(response);
    }
    for (const parameter of parameters) describeObject(parameter);
    if (requestBody) {
      requestBody.required = !Object.values(requestBody.content).every(({ schema }) => 'default' in schema);
    }
  }
  const content = { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } };
  const errors = Object.values(ERRORS).map(({ name, description }) => [
    name,
    { description, headers: OF_ERRORS, content },
  ]);
  const components = { ...document.components, headers: HEADERS, responses: Object.fromEntries(errors) };
  return { ...document, components };
}

/** An object in a URL is written name[key]=value. */
function describeObject(parameter: Parameter): void {
  const { type, anyOf = [] } = parameter.schema;
  if (![type, ...anyOf.map((each) => each.type)].flat().includes('object')) return;
  parameter.style = 'deepObject';
  parameter.explode = true;
}

function describe(response: Response): void {
  if (response.description === NO_DESCRIPTION) response.description = 'Done.';
  response.headers = OF_EVERY_ANSWER;
}
