/** Prompts as the black box is asked about them. */
export type Prompts =
  | { kind: 'context'; count: number /** [P, m, d] */; values: Float32Array }
  /** Each with one `{}` for the class name, and perhaps one `{description}`. */
  | { kind: 'template'; count: number; templates: string[] };

/** The prompt that training ends with. */
export type LearnedPrompt =
  | { space: 'soft'; contextTokens: number; contextWidth: number /** [m·d] */; context: Float32Array }
  | { space: 'text'; template: string };

/** What a search starts from: p0 [m·d], or the space of templates. */
export type PromptProblem =
  | { space: 'soft'; contextTokens: number; contextWidth: number; initialContext: Float32Array }
  | {
      space: 'text';
      /** Where the search starts: the provider's own. */
      startTemplate: string;
      /** The user's own, in addition to those that are shipped. */
      templates: string[];
      words: string[];
      /** Whether classes have descriptions. */
      descriptions: boolean;
    };
