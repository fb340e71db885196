-- AlterTable
ALTER TABLE "providers" ADD COLUMN "max_request_bytes" INTEGER NOT NULL DEFAULT 33554432;
