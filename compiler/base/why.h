/* Why something failed, for people. Library code returns a negative errno and says why here. */
#ifndef MESH_BASE_WHY_H
#define MESH_BASE_WHY_H

struct why {
	char text[512];
};

/* Writes the text (cut at its bound) and returns ERROR. WHY may be NULL. */
int why_set(struct why *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* In place: what somebody else said may be no text. Bytes that are not printable ASCII become '?'. */
void make_printable(char *text);

#endif
