from clue_baselines.report import main

main()
