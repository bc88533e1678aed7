/* The policies of tests/errors, one or more for each diagnostic code (setup/examples.cmake). */
#ifndef MESH_PASS_EXAMPLES_H
#define MESH_PASS_EXAMPLES_H

struct example_file {
	const char *name, *text;
};
extern const struct example_file example_files[]; /* by name; the last has no name */

#endif
