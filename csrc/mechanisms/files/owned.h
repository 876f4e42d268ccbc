/* What is owned: that it is ours still, and whose besides. */
#ifndef LOCKFILE_OWNED_H
#define LOCKFILE_OWNED_H

#include "mechanisms/files/place.h"

/* As in struct mechanism. */
int owned_share(struct claim *claim, bool inheritable);
bool owned_is_last(struct claim *claim);
enum outcome owned_confirm(struct attempt *attempt, struct claim *claim);
void owned_discard(struct claim *claim);
void owned_abandon(struct claim *claim);

/* ---- Before it is removed ---- */

/* Opens again what was lost. ENOENT: what it stood for is not there any more. */
int owned_mend(struct files_claim *claim);
int owned_check(const struct files_claim *claim); /* is it ours still? ENOENT: not */

/* Keeps off whoever else may remove it meanwhile. EAGAIN, refused: one is at work. */
int owned_begin_removing(struct files_claim *claim);
void owned_end_removing(struct files_claim *claim);

/* ---- And after it ---- */

void owned_remove_unique_name(const struct files_claim *claim); /* whoever has made it */
void owned_remove_other_names(const struct files_claim *claim);
void owned_end_turn(struct files_claim *claim); /* if it has one; all else goes with its files */

#endif
