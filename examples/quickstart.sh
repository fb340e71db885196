#!/usr/bin/env bash
# The whole path with curl and jq, against a running server: CRAFT_URL and CRAFT_API_KEY name it.
#   npm start                                     # in another terminal; prints the address and, once, the key
#   CRAFT_API_KEY=$(cat .craft/api-key) examples/quickstart.sh
set -euo pipefail
url=${CRAFT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${CRAFT_API_KEY:?set it to the key in .craft/api-key}"
data=$(cd "$(dirname "$0")" && pwd)/fluent-contrast-subgroups.zip

file=$(curl -fsS "$url/v1/files" -H "$auth" -F purpose=fine-tune -F "file=@$data" | jq -r .id)
echo "uploaded $file"

body=$(jq -n --arg file "$file" '{
  model: "emoji-clip", training_file: $file, seed: 1,
  method: { type: "craft", craft: { budget: { max_image_queries: 4000 } } } }')
echo "the plan:"
curl -fsS "$url/v1/fine_tuning/jobs?dry_run=true" -H "$auth" -H 'Content-Type: application/json' -d "$body" | jq -c .plan.total

job=$(curl -fsS "$url/v1/fine_tuning/jobs" -H "$auth" -H 'Content-Type: application/json' -d "$body" | jq -r .id)
echo "created $job; its events, live:"
curl -fsSN "$url/v1/fine_tuning/jobs/$job/events" -H "$auth" -H 'Accept: text/event-stream' \
  | sed -un 's/^data: //p' | jq -r --unbuffered '.message // .status'

adapter=$(curl -fsS "$url/v1/fine_tuning/jobs/$job" -H "$auth" | jq -r .fine_tuned_model)
echo "predicting with $adapter:"
image=$(mktemp --suffix .png)
unzip -p "$data" 'alphanum/000.png' > "$image"
curl -fsS "$url/v1/adapters/$adapter/predict" -H "$auth" -F "images=@$image" -F top_k=3 | jq -c '.data[0].predictions[]'
rm -f "$image"
