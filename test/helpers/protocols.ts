/** The five protocols as the reference provider speaks them, each with a record that fits it. */

export const PROTOCOLS = ['open_inference', 'hugging_face', 'openai_chat', 'embeddings', 'custom_http'] as const;
export type ProtocolName = (typeof PROTOCOLS)[number];

/** emoji-clip's own scale of cosines. */
export const LOGIT_SCALE = 23.024559;
export const MODEL = 'emoji-clip';
export const TEMPLATE = 'a photo of a {}.';

export interface ProtocolRecord {
  protocol: ProtocolName;
  base_url: string;
  remote_model: string;
  settings: Record<string, unknown>;
}

/** @param url where the reference provider listens */
export function recordOf(protocol: ProtocolName, url: string): ProtocolRecord {
  const record = (path: string, settings: Record<string, unknown>) => ({
    protocol,
    base_url: url + path,
    remote_model: MODEL,
    settings,
  });
  switch (protocol) {
    case 'open_inference':
      return record('', {});
    case 'hugging_face':
      return record(`/models/${MODEL}`, { score_floor: 1e-12 });
    case 'openai_chat':
      return record('/v1', { max_image_tokens: 85, logprob_floor: -60 });
    case 'embeddings':
      return record('/v1', { scale: LOGIT_SCALE, max_image_tokens: 85 });
    case 'custom_http':
      return record('', {
        path: `/models/${MODEL}`,
        body: {
          inputs: '{{image_base64}}',
          parameters: { candidate_labels: '{{labels}}', hypothesis_template: '{{template}}' },
        },
        result: { kind: 'probabilities', scores: '$[*].score', labels: '$[*].label' },
        score_floor: 1e-12,
      });
  }
}
