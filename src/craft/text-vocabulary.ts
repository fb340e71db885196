/**
 * The vocabulary that text prompts are made of when the user adds nothing. The templates are a selection of phrases
 * that CLIP practice has made common knowledge: the ImageNet ensemble of Radford et al. ("Learning Transferable Visual
 * Models From Natural Language Supervision", arXiv 2103.00020) and the one-per-data-set templates of Zhou et al.
 * ("Learning to Prompt for Vision-Language Models", arXiv 2109.01134). The words name what those phrases vary: media,
 * styles, quality, colour, size, view, lighting, surroundings and broad domains.
 */

/** Templates with one `{}` for the class name each; the first is the usual starting point. */
export const TEMPLATES: readonly string[] = [
  'a photo of a {}.',
  'a photo of the {}.',
  'a photo of one {}.',
  'a photo of many {}.',
  'a photo of my {}.',
  'itap of a {}.',
  'a good photo of a {}.',
  'a bad photo of a {}.',
  'a blurry photo of a {}.',
  'a cropped photo of a {}.',
  'a bright photo of a {}.',
  'a dark photo of a {}.',
  'a close-up photo of a {}.',
  'a low resolution photo of a {}.',
  'a pixelated photo of a {}.',
  'a jpeg corrupted photo of a {}.',
  'a black and white photo of a {}.',
  'a photo of a clean {}.',
  'a photo of a dirty {}.',
  'a photo of a small {}.',
  'a photo of a large {}.',
  'a photo of a nice {}.',
  'a photo of a weird {}.',
  'a photo of a cool {}.',
  'a photo of a hard to see {}.',
  'a picture of a {}.',
  'an image of a {}.',
  'a drawing of a {}.',
  'a painting of a {}.',
  'a sketch of a {}.',
  'a doodle of a {}.',
  'a rendering of a {}.',
  'a rendition of a {}.',
  'a sculpture of a {}.',
  'a tattoo of a {}.',
  'an illustration of a {}.',
  'a diagram of a {}.',
  'an icon of a {}.',
  'a symbol of a {}.',
  'a logo of a {}.',
  'a silhouette of a {}.',
  'a screenshot of a {}.',
  'a scan of a {}.',
  'art of a {}.',
  'graffiti of a {}.',
  'clip art of a {}.',
  'a cartoon {}.',
  'a toy {}.',
  'a plastic {}.',
  'a plushie {}.',
  'an origami {}.',
  'an embroidered {}.',
  'a {} in a video game.',
  'a {} in the wild.',
  'a {} on a white background.',
  'a {} texture.',
  'a {} pattern.',
  'a {} icon.',
  'a photo of a {}, a type of animal.',
  'a photo of a {}, a type of pet.',
  'a photo of a {}, a type of bird.',
  'a photo of a {}, a type of flower.',
  'a photo of a {}, a type of plant.',
  'a photo of a {}, a type of food.',
  'a photo of a {}, a type of aircraft.',
  'a photo of a {}, a type of vehicle.',
  'a photo of a {}, a type of object.',
  'a photo of a {}, a type of product.',
  'a photo of a person doing {}.',
  'a photo of a person with a {}.',
  'a photo of the {} scene.',
  'a satellite photo of {}.',
  'an aerial photo of {}.',
  'a medical image of {}.',
  'a microscope image of {}.',
  'a street sign of a {}.',
  'a photo of the number {}.',
  'there is a {} in the scene.',
  'this is a {}.',
  'a {}.',
  '{}',
];

/** Context words that may stand before and after the class name. */
export const CONTEXT_WORDS: readonly string[] = words(`
  photo picture image drawing painting sketch illustration icon symbol sign logo emblem badge sticker stamp print poster
  diagram map chart figure silhouette outline cartoon comic doodle clipart graphic vector emoji pictogram render scan
  screenshot video film frame mask sculpture statue model toy doll plush origami mosaic tattoo graffiti embroidery
  watercolor ink pencil chalk pixel art style design texture pattern fabric paper plastic metal wood glass stone
  abstract realistic minimal simple detailed flat line curved geometric round square pointed striped dotted solid
  empty full open closed broken old new modern vintage classic young clean dirty wet dry rough smooth soft hard shiny
  black white gray grayscale red orange yellow green blue purple pink brown gold silver dark light bright pale colorful
  monochrome transparent blurry sharp noisy cropped large small big tiny tall short long wide heavy thin
  good bad nice weird cool cute funny strange beautiful famous common rare typical
  one two many single pair group part whole top bottom left right front back side inside outside
  close-up aerial satellite microscope medical x-ray infrared night day outdoor indoor studio street home office city
  country nature sky water sea mountain forest field garden ground background
  object thing item product animal pet bird fish insect mammal plant flower fruit vegetable food drink dish
  vehicle car aircraft ship train building house room place scene landscape event sport game music activity action
  person people man woman child face hand body clothing tool machine device furniture weapon instrument weather
  science text letter number shape color material type kind category
`);

/** Ways to put a class's description after its name. */
export const DESCRIPTION_PHRASES: readonly string[] = [
  ', {description}',
  ': {description}',
  ' ({description})',
  ' with {description}',
  ', which is {description}',
  ' - {description}',
];

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
