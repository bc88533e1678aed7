# Writes the bytes of INPUT as C array NAME into OUTPUT.
file(READ ${INPUT} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR length "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "const unsigned char ${NAME}[] __attribute__((aligned(8))) = {${bytes}};\n"
                     "const unsigned int ${NAME}_len = ${length};\n")
