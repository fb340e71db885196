const FORM =
  'Write {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": …}}]}, ' +
  '{"role": "assistant", "content": "<label>"}]}.';

const ROLES = ['system', 'developer', 'user', 'assistant'];
/** Nobody labels an image with more; it bounds what a line of empty messages costs. */
const MAX_MESSAGES = 64;
const MAX_PARTS = 64;

/**
 * Reads a conversation of OpenAI's vision fine-tuning format: one image from the user, and the assistant's one answer,
 * which is the label. What else is said is not used.
 * @param messages of the line's JSON
 * @param fault makes the error that names the line
 */
export function readChat(messages: unknown, fault: (what: string) => Error): { image: string; label: string } {
  if (!Array.isArray(messages) || messages.length > MAX_MESSAGES) {
    throw fault(`has "messages" that are no list of at most ${MAX_MESSAGES}. ${FORM}`);
  }
  const images: string[] = [];
  const labels: string[] = [];
  messages.forEach((message: unknown, index) => {
    const { role, content } = (message ?? {}) as Record<string, unknown>;
    const where = `messages[${index}]`;
    if (!ROLES.includes(role as string))
      throw fault(`has ${where} with a role other than ${ROLES.join(', ')}. ${FORM}`);
    const { texts, urls } = readContent(content, (what) => fault(`has ${where}.content ${what} ${FORM}`));
    if (role !== 'user' && urls.length > 0) throw fault(`has an image in ${where}, which is not the user's. ${FORM}`);
    images.push(...urls);
    if (role === 'assistant') labels.push(texts.join(''));
  });
  if (images.length !== 1) throw fault(`has ${images.length} images; exactly one is needed. ${FORM}`);
  if (labels.length !== 1)
    throw fault(`has ${labels.length} messages of the assistant; exactly one is needed. ${FORM}`);
  return { image: images[0], label: labels[0] };
}

function readContent(content: unknown, fault: (what: string) => Error): { texts: string[]; urls: string[] } {
  if (typeof content === 'string') return { texts: [content], urls: [] };
  if (!Array.isArray(content) || content.length > MAX_PARTS) {
    throw fault(`that is neither a text nor a list of at most ${MAX_PARTS} parts.`);
  }
  const texts: string[] = [];
  const urls: string[] = [];
  for (const part of content as unknown[]) {
    const { type, text, image_url } = (part ?? {}) as Record<string, unknown>;
    if (type === 'text' && typeof text === 'string') texts.push(text);
    else if (type === 'image_url') urls.push(urlOf(image_url, fault));
    else throw fault('with a part that is neither a text nor an image_url.');
  }
  return { texts, urls };
}

function urlOf(value: unknown, fault: (what: string) => Error): string {
  const { url } = (value ?? {}) as Record<string, unknown>;
  if (typeof url !== 'string' || url === '') throw fault('with an image_url that has no "url" text.');
  return url;
}
