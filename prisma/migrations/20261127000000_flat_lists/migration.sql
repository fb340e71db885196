-- Lists that cost the same however long they are: each is read from an index in its own order, without what was deleted.

CREATE INDEX "files_live_idx" ON "files"("created_at", "id") WHERE "deleted_at" IS NULL;
CREATE INDEX "adapters_live_idx" ON "adapters"("created_at", "id") WHERE "deleted_at" IS NULL;
CREATE INDEX "providers_live_idx" ON "providers"("created_at", "id") WHERE "deleted_at" IS NULL;
