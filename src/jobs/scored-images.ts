import type { ScoringRequest } from '../craft/scoring.js';
import type { ProviderImage } from '../providers/provider.js';

/** The images of each set, as they are asked about. */
export type ScoredImages = Record<ScoringRequest['imageSet'], { images: ProviderImage[] }>;
