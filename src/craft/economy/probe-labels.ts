/** Labels that a job may name beside its classes, at most. */
export const MOST_PROBES = 256;

/**
 * Common concepts of many kinds, one after another of each, so that every beginning of the list is diverse. Chosen without a
 * look at any data set.
 */
const LIST = `
  dog bread man house car red arrow hammer running tree sun circle happy hat chair computer hand bird ball book
  drawing wood guitar small lion apple baby mountain airplane blue cross knife sleeping flower cloud square sad
  shoe lamp phone face fish trophy coin photograph metal drum round elephant soup crowd beach boat black number
  key dancing leaf rain triangle angry dress bed camera eye snake goal envelope cartoon glass piano long mouse
  cake woman city bicycle green letter scissors eating mushroom snow line fear shirt door radio foot butterfly
  racket gift outline water note broken monkey meat child forest train yellow flag wrench swimming grass
  lightning spiral love glasses bottle television heart spider skateboard umbrella silhouette stone trumpet
  empty whale cheese doctor bridge truck white star rope reading cactus wind diamond surprise crown cup battery
  hair turtle medal bell icon fur violin old horse salad soldier castle rocket purple sign saw fighting rose
  rainbow cube laughing glove window robot mouth frog target paper painting cloth microphone sharp bear egg king
  desert tractor orange question needle cooking seed fog oval crying bag box keyboard bone octopus boxing map
  pattern ice song dark rabbit rice worker island bus pink check shovel climbing branch fire ring tired scarf
  bathtub printer ear chicken golf pencil sketch smoke speaker many bat candy grandmother church helicopter
  brown logo magnet singing vine moon dot calm helmet candle bulb brain crab skiing money shadow sand dance soft
  deer noodle clown street motorcycle gray warning axe rock night sphere sick mirror headphones tooth bee puzzle
  calendar text feather flute bright pig carrot wizard farm balloon gold percent brush kissing bamboo storm
  curve proud necktie clock microscope skull dinosaur dice ticket blur leather record flat
`;

const PROBE_LABELS = LIST.trim()
  .split(/\s+/)
  .map((word) => word.replaceAll('_', ' '));

/**
 * The first probe labels that are not classes themselves: a black box may take each label once only.
 * @param count as many as there are, where there are fewer
 */
export function probeLabelsFor(classNames: string[], count: number): string[] {
  const taken = new Set(classNames.map((name) => name.trim().toLowerCase()));
  return PROBE_LABELS.filter((label) => !taken.has(label)).slice(0, count);
}
