# Writes every policy of FOLDER into OUTPUT as a table of names and texts (compiler/pass/examples.h).
set(text "#include \"pass/examples.h\"\n\nconst struct example_file example_files[] = {\n")
file(GLOB inputs ${FOLDER}/M*.mesh)
list(SORT inputs)
foreach(input ${inputs})
  get_filename_component(name ${input} NAME)
  # A policy that is large is so to pass a bound: its beginning shows how.
  file(READ ${input} bytes LIMIT 3000 HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${bytes}")
  string(APPEND text "\t{\"${name}\", \"${bytes}\"},\n")
endforeach()
file(WRITE ${OUTPUT} "${text}\t{0, 0},\n};\n")
