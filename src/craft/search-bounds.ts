/**
 * Smooth box bounds: a map from the whole real line onto [-bound, bound], coordinate by coordinate. It is the identity
 * in the interior, bends quadratically within a = min(bound, (1 + bound)/20) of each side, and is mirrored periodically
 * beyond (the transformation that pycma calls BoundTransform; Hansen's tutorial, section B.5, advises such a map).
 * CMA-ES itself searches without bounds, so nothing in its adaptation is disturbed.
 * @param points changed in place
 */
export function applyBound(points: Float64Array, bound: number | null): void {
  if (bound === null) return;
  const margin = Math.min(bound, (1 + bound) / 20);
  const edge = bound + margin;
  const period = 4 * edge;
  for (let i = 0; i < points.length; i++) {
    let magnitude = Math.abs(points[i]);
    if (magnitude <= bound - margin) continue;
    let sign = Math.sign(points[i]);
    if (magnitude > edge) {
      magnitude %= period;
      if (magnitude > 2 * edge) {
        magnitude = period - magnitude;
        sign = -sign;
      }
      if (magnitude > edge) magnitude = 2 * edge - magnitude;
    }
    if (magnitude > bound - margin) magnitude = bound - (edge - magnitude) ** 2 / (4 * margin);
    points[i] = sign * magnitude;
  }
}
