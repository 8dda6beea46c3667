from clue_baselines.data.inventory import main

main()
