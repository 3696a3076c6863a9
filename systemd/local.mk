# The unit of onelipd.
