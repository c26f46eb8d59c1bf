# results.awk: what a test program says with --show-output, without what passed tests print, except why
# something of a test was not checked on this machine.
/^successes:$/ { quiet = 1; next }
/^(failures:|test result:)/ { quiet = 0 }
quiet && /^---- .* stdout ----$/ { name = $2; next }
quiet && /^(not run|NOT CHECKED)/ { sub(/^(not run|NOT CHECKED)[^:]*: */, ""); print "NOT CHECKED " name ": " $0; next }
!quiet
