# Macros of configure.ac: collecting what is missing, and probing compiler flags.

# RC_MISSING(WHAT, DEBIAN PACKAGE): notes it; RC_REPORT_MISSING ends the run with all of them.
AC_DEFUN([RC_MISSING], [
	rc_missing="${rc_missing}
  $1 is missing: install $2"
	rc_packages="$rc_packages $2"
])

AC_DEFUN([RC_REPORT_MISSING], [
	AS_IF([test -n "$rc_missing"], [
		AC_MSG_NOTICE([what the build needs is not all there:$rc_missing])
		AC_MSG_ERROR([on Debian: apt-get install$rc_packages])
	])
])

# RC_LIBRARY(VARIABLE, PKG-CONFIG SPEC, NAME, DEBIAN PACKAGE, [HEADER, FUNCTION, LIBRARY])
# With the last three, a library without a pkg-config file is found by its header and a function.
AC_DEFUN([RC_LIBRARY], [
	PKG_CHECK_MODULES([$1], [$2], [], [
		rc_found=no
		m4_ifval([$5], [
			AC_CHECK_HEADER([$5], [
				AC_CHECK_LIB([$7], [$6], [rc_found=yes; $1_CFLAGS=; $1_LIBS="-l$7"])])
		])
		AS_IF([test $rc_found = no], [RC_MISSING([$3], [$4])])
	])
])

# RC_CFLAGS(VARIABLE, FLAG…), RC_LDFLAGS(VARIABLE, FLAG…): append each flag that the compiler takes without a word.
AC_DEFUN([RC_CFLAGS], [
	for rc_flag in $2; do
		AC_MSG_CHECKING([whether $CC takes $rc_flag])
		rc_saved="$CFLAGS"
		CFLAGS="$CFLAGS -Werror $rc_flag"
		AC_COMPILE_IFELSE([AC_LANG_SOURCE([[int probe(int x); int probe(int x) { return x; }]])],
			[$1="$$1 $rc_flag"; AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no])])
		CFLAGS="$rc_saved"
	done
])

AC_DEFUN([RC_LDFLAGS], [
	for rc_flag in $2; do
		AC_MSG_CHECKING([whether the linker takes $rc_flag])
		rc_saved="$LDFLAGS"
		rc_saved_cflags="$CFLAGS"
		LDFLAGS="$LDFLAGS $rc_flag"
		CFLAGS="$CFLAGS -fPIE"
		AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
			[$1="$$1 $rc_flag"; AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no])])
		LDFLAGS="$rc_saved"
		CFLAGS="$rc_saved_cflags"
	done
])

# RC_LLHTTP: sets LLHTTP_CFLAGS and LLHTTP_LIBS (a library), or LLHTTP_SOURCE and LLHTTP_INCLUDE (its C source,
# which is then compiled in place: Debian 12 ships no library, only the source in node-llhttp).
AC_DEFUN([RC_LLHTTP], [
	AC_ARG_WITH([llhttp-source],
		[AS_HELP_STRING([--with-llhttp-source=DIR], [compile llhttp from api.c, http.c, llhttp.c in DIR
			@<:@a libllhttp, else /usr/share/llhttp of Debian's node-llhttp@:>@])],
		[], [with_llhttp_source=])
	LLHTTP_CFLAGS=
	LLHTTP_LIBS=
	LLHTTP_SOURCE=
	LLHTTP_INCLUDE=
	AS_CASE([$with_llhttp_source],
		[yes], [with_llhttp_source=/usr/share/llhttp],
		[no], [with_llhttp_source=none])
	AS_IF([test -z "$with_llhttp_source" || test "$with_llhttp_source" = none], [
		PKG_CHECK_MODULES([LLHTTP], [libllhttp >= 8.0], [rc_llhttp=library], [
			rc_llhttp=none
			AC_CHECK_HEADER([llhttp.h], [
				AC_CHECK_LIB([llhttp], [llhttp_execute], [rc_llhttp=library; LLHTTP_CFLAGS=; LLHTTP_LIBS=-lllhttp])])
		])
		AS_IF([test $rc_llhttp = none && test -z "$with_llhttp_source"], [with_llhttp_source=/usr/share/llhttp])
	], [rc_llhttp=none])
	AS_IF([test $rc_llhttp = none], [
		AC_MSG_CHECKING([for llhttp's source])
		AS_IF([test -f "$with_llhttp_source/llhttp.c" && test -f "$with_llhttp_source/api.c" \
			&& test -f "$with_llhttp_source/http.c"], [
			for rc_dir in "$with_llhttp_source" "$with_llhttp_source/include" "$with_llhttp_source/../include" \
				"$with_llhttp_source/../include/llhttp"; do
				AS_IF([test -z "$LLHTTP_INCLUDE" && test -f "$rc_dir/llhttp.h"],
					[LLHTTP_INCLUDE=`cd "$rc_dir" && pwd`])
			done
		])
		AS_IF([test -n "$LLHTTP_INCLUDE"], [
			LLHTTP_SOURCE=`cd "$with_llhttp_source" && pwd`
			LLHTTP_CFLAGS="-isystem $LLHTTP_INCLUDE"
			LLHTTP_LIBS=
			AC_MSG_RESULT([$LLHTTP_SOURCE])
		], [
			AC_MSG_RESULT([no])
			RC_MISSING([llhttp], [node-llhttp])
		])
	])
	AC_SUBST([LLHTTP_CFLAGS])
	AC_SUBST([LLHTTP_LIBS])
	AC_SUBST([LLHTTP_SOURCE])
	AC_SUBST([LLHTTP_INCLUDE])
	AM_CONDITIONAL([BUILD_LLHTTP], [test -n "$LLHTTP_SOURCE"])
])
