from bp_lcz.cli import main

main()
