import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { describeOperations } from './openapi-operations.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Request bodies that no schema of the route checks, by media type; for the documentation only. */
    documentedBodies?: Record<string, z.ZodType>;
  }
}

/** The OpenAPI 3.1 document, made from the routes' own schemas, and a page that shows it under /docs. */
export async function registerOpenApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'craft-server',
        version,
        description:
          'Fine-tuning as a service for black-box vision-language models (CraFT, ICML 2024). Files and fine-tuning jobs follow the shapes of OpenAI’s endpoints, so its SDKs work against this server.',
        license: { name: 'MIT', identifier: 'MIT' },
      },
      servers: [{ url: '/' }],
      components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } } },
      security: [{ apiKey: [] }],
      tags: [
        { name: 'Files', description: 'Labelled images.' },
        { name: 'Providers', description: 'The black boxes.' },
        { name: 'Fine-tuning', description: 'Training jobs.' },
        { name: 'Projects', description: 'Limits across all jobs and providers.' },
        { name: 'Adapters', description: 'What training leaves, and predictions with it.' },
        { name: 'Operations', description: 'Health of the service.' },
      ],
    },
    transform: (input) => {
      const result = jsonSchemaTransform(input);
      const bodies = input.route.config?.documentedBodies;
      if (!bodies) return result;
      const content = Object.fromEntries(
        Object.entries(bodies).map(([mediaType, schema]) => [
          mediaType,
          { schema: withoutDialect(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })) },
        ]),
      );
      return { ...result, schema: Object.assign(result.schema, { body: { content } }) };
    },
    transformObject: (input) =>
      withoutUnusedSchemas(describeOperations(jsonSchemaTransformObject(input) as Document)) as never,
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    theme: {
      title: 'craft-server',
      css: [{ filename: 'craft.css', content: '.swagger-ui .topbar { display: none }' }],
    },
  });
}

type Document = { components?: { schemas?: Record<string, unknown> } } & Record<string, unknown>;

/** Drops component schemas that nothing refers to: each shared schema is made once for requests and once for answers. */
function withoutUnusedSchemas(document: Document): Document {
  const schemas = { ...document.components?.schemas };
  const isUsed = (name: string) => {
    const rest = { ...document, components: { ...document.components, schemas: { ...schemas, [name]: undefined } } };
    return JSON.stringify(rest).includes(`"#/components/schemas/${name}"`);
  };
  for (let dropped = true; dropped; ) {
    const unused = Object.keys(schemas).filter((name) => !isUsed(name));
    for (const name of unused) delete schemas[name];
    dropped = unused.length > 0;
  }
  return { ...document, components: { ...document.components, schemas } };
}

function withoutDialect({ $schema: _, ...schema }: Record<string, unknown>): Record<string, unknown> {
  return schema;
}
