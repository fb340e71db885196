import { describe, expect, it } from 'vitest';
import { isAzure, isOpenAi } from '../../../src/providers/openai-models.js';

describe('whose server it is', () => {
  it.each([
    ['https://api.openai.com/v1', true, false],
    ['https://API.OPENAI.COM', true, false],
    ['https://me.openai.azure.com/openai/v1', false, true],
    ['https://me.services.ai.azure.com/models', false, true],
    ['http://127.0.0.1:11434/v1', false, false],
    ['https://api.openai.com.example.com/v1', false, false],
    ['https://notazure.com/v1', false, false],
    ['https://openrouter.ai/api/v1', false, false],
  ])('is told by the host of %s', (url, openAi, azure) => {
    expect([isOpenAi(url), isAzure(url)]).toEqual([openAi, azure]);
  });
});
