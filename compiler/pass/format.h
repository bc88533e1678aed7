#ifndef MESH_PASS_FORMAT_H
#define MESH_PASS_FORMAT_H

#include "pass/passes.h"

/* The canonical text of file number FILE of a run that was parsed without errors; in its arena. */
const char *format_file(struct run *run, uint32_t file);

#endif
